"""A sweep's outcome in words and in a table, for the terminal and for the page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from evals.statistics.noise import noise_words
from pipeline.display.console import Console
from pipeline.display.pace import duration
from pipeline.sweeps.variant_runs import CHOICE, FOLDER
from schemas.files import read_record

Json = Mapping[str, Any]


def read_choice(run_dir: Path) -> Json:
    """What a sweep of a run has come to, as it was written down."""
    found: Json = json.loads(read_record(run_dir / FOLDER / CHOICE))
    return found


def sweep_table(run_dir: Path) -> None:
    """Print all combinations, the chosen one marked, and what chance does; where the page is."""
    choice = read_choice(run_dir)
    table = Table(box=None, padding=(0, 2, 0, 0), title_justify="left")
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for row in choice["rows"]:
        mark = "*" if row["name"] == choice["chosen"] else ""
        table.add_row(*cells(row, mark))
    console = Console(highlight=False)
    console.print(Text(f"\nsweep, on {choice['split'] or 'held-out'} prompts (* the run's own)"))
    console.print(table)
    for line in [choice["why"], *noise_words(choice["noise"])]:
        console.print(Text(line))
    console.print(Text(f"\nSweep: {run_dir / FOLDER / 'index.html'}"))


HEADINGS = ("", "settings", "win rate", "less the chosen", "held-out accuracy", "training")


def cells(row: Json, mark: str) -> list[str]:
    """One combination's texts, in the order of HEADINGS."""
    settings = ", ".join(f"{key} = {value}" for key, value in row["settings"].items())
    difference = row["difference"]
    accuracy, seconds = row["accuracy"], row["seconds"]
    return [
        mark,
        settings,
        _rate(row),
        _points(difference) if difference else "",
        "" if accuracy is None else f"{accuracy:.1%}",
        "" if seconds is None else duration(seconds),
    ]


def _rate(row: Json) -> str:
    if row["value"] is None:
        return ""
    ends = "" if row["ci_low"] is None else f" ({row['ci_low']:.1%} to {row['ci_high']:.1%})"
    return f"{row['value']:.1%}{ends}"


def _points(difference: Json) -> str:
    value, low, high = (difference[key] for key in ("value", "ci_low", "ci_high"))
    if value is None:
        return ""
    ends = "" if low is None else f" ({100 * low:+.1f} to {100 * high:+.1f})"
    return f"{100 * value:+.1f} points{ends}"


def page_rows(rows: Sequence[Json], chosen: str) -> list[list[str]]:
    """The table of the page."""
    return [cells(row, "chosen" if row["name"] == chosen else "") for row in rows]
