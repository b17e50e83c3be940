"""The show command: one row of a table, or of raw data as ingest reads it."""

import json
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.display.terminal_text import say_json


def show(
    what: Annotated[
        str,
        typer.Argument(
            metavar="TABLE",
            help="A table, as stage/table or table, a raw file, or hub:OWNER/NAME@REVISION/SPLIT.",
        ),
    ],
    run_dir: Annotated[
        Path, typer.Option("--run-dir", "-d", help="The run directory to look into.")
    ] = Path("runs/food"),
    row: Annotated[int, typer.Option(help="Which row, from 0; negative counts from the end.")] = 0,
    row_id: Annotated[
        str | None, typer.Option("--id", help="Among the rows whose id begins like this.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="Read raw data as this kind of data set. Default: whichever fits."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")] = False,
) -> None:
    """Show one row: the conversation, what was preferred, labels, scores, where it came from."""
    from pipeline.display.raw_rows import is_raw, read_raw, show_raw
    from pipeline.display.rows import find_table, pick_row, show_row

    if is_raw(what, kind):
        shown = read_raw(what, row, kind)
        if shown.kind is not None or not what.endswith(".parquet"):
            if as_json:
                say_json(_as_json(shown.as_json()))
            else:
                show_raw(shown)
            return
    path = find_table(what, run_dir)
    chosen, position, count = pick_row(path, row, row_id)
    if as_json:
        say_json(_as_json(chosen))
    else:
        show_row(chosen, f"{path} row {position} of {count}")


def _as_json(value: Any) -> str:
    """JSON that every reader takes: NaN, infinities and what has no form in it as text."""
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return str(value) if isinstance(value, float) and not isfinite(value) else value
