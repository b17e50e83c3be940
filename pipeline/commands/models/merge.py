"""The merge command: an adapter and its base as one model."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.display.terminal_text import say
from schemas.errors import ConfigError


def merge(
    adapter: Annotated[
        Path, typer.Argument(help="An adapter's folder, or the directory of a run that made one.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write; must be new.")],
) -> None:
    """Merge a LoRA adapter into its base, and save one model that needs no peft."""
    # Weights are loaded: torch comes with them, and not before.
    from evals.models.checkpoints import merge_adapter

    source = adapter if (adapter / "adapter_config.json").is_file() else adapter / "train" / "model"
    if not (source / "adapter_config.json").is_file():
        raise ConfigError(f"{adapter}: no adapter there; name a folder with adapter_config.json")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: holds something already; name a new folder")
    merge_adapter(source, out)
    say(f"{out}: {source} merged into its base")
