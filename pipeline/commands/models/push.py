"""The push command: a run's model, its card and what proves it, into a folder or onto a hub."""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import JsonOption
from pipeline.display.terminal_text import say, say_json
from pipeline.publishing.card import base_of
from pipeline.publishing.folder import last_round, write_folder
from schemas.errors import BackendError, ConfigError
from schemas.files import first_line


def push(
    run: Annotated[Path, typer.Argument(help="A run directory with a finished training.")],
    name: Annotated[
        str | None, typer.Argument(help="OWNER/NAME on the hub; with --to only the card's title.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", help="Write a folder here, or s3://BUCKET/NAME, and ask no hub."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private/--public", help="Who can see it on the hub.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Publish a run's model or adapter with a filled card and the verdicts that prove it."""
    if to is None and name is None:
        raise ConfigError("push: name OWNER/NAME on the hub, or a folder with --to")
    title = name or (Path(to).name if to else run.name)
    base = base_of(last_round(run) / "train" / "model")
    if to is not None:
        numbers = write_folder(run, to, title)
        where = to
    else:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "folder"
            numbers = write_folder(run, folder, title)
            where = _upload(folder, title, private)
    if base and base.folder:
        say(
            f"warning: the adapter's base is a folder of this machine, {base.path}; others need it "
            "too",
            err=True,
        )
    if as_json:
        say_json(json.dumps({"to": where, "numbers": numbers}))
    else:
        say(f"{where}: weights, card and verdicts; check it with `prefline verify`")


def _upload(folder: Path, name: str, private: bool) -> str:
    """Create the repository where it is not there, and upload all of a folder; its address."""
    # Only this command talks to a hub: the client is loaded when it does.
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        made = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Published by prefline")
    except Exception as error:
        raise BackendError(
            f"push {name}: the hub refuses: {first_line(error)}; log in, or write a folder with "
            "--to and upload it yourself"
        ) from error
    return str(made)
