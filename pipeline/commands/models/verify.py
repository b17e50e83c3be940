"""The verify command: a published card's numbers recomputed from its verdicts."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.options import JsonOption
from pipeline.display.terminal_text import say, say_json
from pipeline.publishing.folder import problems_of


def verify(
    folder: Annotated[Path, typer.Argument(help="A folder that `prefline push` has written.")],
    as_json: JsonOption = False,
) -> None:
    """Recompute a published card's numbers from its verdicts; exit code 1 where they differ."""
    wrong = problems_of(folder)
    if as_json:
        say_json(json.dumps({"verified": not wrong, "problems": wrong}))
    elif wrong:
        say("\n".join(wrong))
    else:
        say(f"{folder}: every number of the card follows from its verdicts; all files agree")
    if wrong:
        raise typer.Exit(1)
