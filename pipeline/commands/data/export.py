"""The export command: tables as files that TRL, the Tinker cookbook and `datasets` read."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.data.formats import Format, Ties
from pipeline.display.terminal_text import say, say_json


def export(
    to: Annotated[Format, typer.Option("--to", help="The format to write.")],
    out: Annotated[
        str,
        typer.Option("--out", "-o", help="The folder to write, s3://BUCKET/NAME too; must be new."),
    ],
    what: Annotated[
        str | None,
        typer.Argument(help="A table as stage/table or table, a stage, a folder or Parquet file."),
    ] = None,
    run_dir: Annotated[
        Path, typer.Option("--run-dir", "-d", help="The run directory to look into.")
    ] = Path("runs/food"),
    ties: Annotated[
        Ties | None, typer.Option(help="Default: drop for trl, keep for the others.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")] = False,
) -> None:
    """Write tables as files that TRL, the Tinker cookbook or datasets.load_dataset read.

    Without a table: the preference pairs of the run, or else its comparisons; for the cookbook
    its comparisons; for hub-layout all tables of ingest.
    """
    # Loads pyarrow, which --help does without.
    from pipeline.commands.data import exporting

    tables = exporting.tables_to_export(to, what, run_dir)
    wish = ties or (Ties.DROP if to is Format.TRL else Ties.KEEP)
    counts = exporting.write_export(to, tables, out, wish)
    if as_json:
        say_json(json.dumps({"out": out, "files": counts}))
        return
    for file, counted in counts.items():
        listed = ", ".join(f"{n} {what}" for what, n in counted.items())
        say(f"{out.rstrip('/')}/{file}: {listed}")
    if to is Format.COOKBOOK and any(counted.get("ties kept") for counted in counts.values()):
        say("its DPO trains a Tie as if B were better: --ties drop leaves them out", err=True)
