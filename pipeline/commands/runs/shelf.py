"""The runs command, and runs compared by the report command."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from pipeline.commands.options import JsonOption
from pipeline.display.console import Console
from pipeline.display.pace import duration
from pipeline.display.terminal_text import say, say_json, visible
from pipeline.sweeps.page import comparison_page
from pipeline.sweeps.scores import paired_with
from pipeline.sweeps.shelf import (
    Shelved,
    differing,
    headline_words,
    read_run,
    runs_under,
    settings_words,
)
from schemas.errors import ConfigError
from schemas.files import write_text

_HEADINGS = ("run", "win rate", "less the first", "settings that differ", "time", "finished")


def runs(
    folder: Annotated[Path, typer.Argument(help="Where the run directories are.")] = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first: headline, the settings in which they differ, time."""
    found = runs_under(folder)
    if as_json:
        say_json(json.dumps([_as_json(run, differing(found), None) for run in found]))
    elif not found:
        say(f"{folder}: no runs")
    else:
        _show([_cells(run, differing(found), "") for run in found], ("less the first",))


def compare_runs(directories: Sequence[Path], out: Path | None, as_json: bool) -> None:
    """Compare finished runs on the prompts that they have in common, the first being the measure.

    Raises:
        ConfigError: there is only one.
        MissingInputError: one is no run.
    """
    if len(directories) < 2:
        raise ConfigError("report: name two runs or more to compare, or a recipe with --recipe")
    found = [read_run(directory) for directory in directories]
    keys = differing(found)
    first = found[0]
    pairs = [None if run is first else paired_with(run.directory, first.directory) for run in found]
    if as_json:
        rows = [_as_json(run, keys, pair) for run, pair in zip(found, pairs, strict=True)]
        say_json(json.dumps({"runs": rows, "differing": keys}))
        return
    cells = [_cells(run, keys, _points(pair)) for run, pair in zip(found, pairs, strict=True)]
    _show(cells, ())
    place = out or Path(f"{'-'.join(run.directory.name for run in found)}.html")
    page = comparison_page(
        f"{len(found)} runs",
        [],
        _HEADINGS,
        cells,
        [
            (f"Report of {run.directory.name}", (run.directory / "report/index.html").as_uri())
            for run in (read_run(directory.resolve()) for directory in directories)
            if (run.directory / "report" / "index.html").is_file()
        ],
        "Win rates with 95% intervals; differences prompt by prompt, where both runs have the "
        "same judge and prompts.",
    )
    write_text(place, page)
    say(f"\nPage: {place}")


def _cells(run: Shelved, keys: Sequence[str], difference: str) -> list[str]:
    return [
        str(run.directory),
        headline_words(run),
        difference,
        settings_words(run, keys),
        duration(run.seconds),
        run.finished[:16].replace("T", " "),
    ]


def _points(pair: dict[str, Any] | None) -> str:
    if pair is None or pair["value"] is None:
        return ""
    ends = ""
    if pair["ci_low"] is not None:
        ends = f" ({100 * pair['ci_low']:+.1f} to {100 * pair['ci_high']:+.1f})"
    return f"{100 * pair['value']:+.1f} points{ends}, p {pair['p_value']:.3f}, n {pair['n']}"


def _as_json(run: Shelved, keys: Sequence[str], pair: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "run": str(run.directory),
        "recipe": run.recipe,
        "headline": run.headline,
        "difference": pair,
        "settings": {key: run.settings[key] for key in keys if key in run.settings},
        "seconds": round(run.seconds, 1),
        "finished": run.finished,
    }


def _show(rows: Sequence[Sequence[str]], without: Sequence[str]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    places = [i for i, heading in enumerate(_HEADINGS) if heading not in without]
    for place in places:
        table.add_column(_HEADINGS[place], overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(row[place])) for place in places))
    Console(highlight=False).print(table)
