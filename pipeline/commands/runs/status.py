"""The state of a run's stages, as a table and as JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from pipeline.commands.named_run import look_at
from pipeline.commands.options import (
    JsonOption,
    RecipeOption,
    RunDirOption,
    SetOption,
    named_recipe,
    one_run_dir,
)
from pipeline.display.console import Console
from pipeline.display.one_number import one_number
from pipeline.display.pace import duration
from pipeline.display.terminal_text import say, say_json, visible
from pipeline.runs.rounds import rounds_of, stages_of
from pipeline.runs.run import Run
from pipeline.runs.stage_status import RESTS, Known, StageStatus, State
from pipeline.sweeps.variant_runs import FOLDER, affected_stages, variant_run

_STYLES = {
    State.FRESH: "green",
    State.STALE: "yellow",
    State.PARTIAL: "yellow",
    State.RUNNING: "cyan",
    State.DAMAGED: "red",
    State.FAILED: "red",
    State.INCOMPLETE: "yellow",
    State.MISSING: "dim",
    State.SKIPPED: "dim",
}


def status(
    run: Annotated[
        Path | None, typer.Argument(help="A run directory, in place of --run-dir.")
    ] = None,
    recipe: RecipeOption = None,
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a line a stage: fresh, stale, failed, interrupted or missing, why, and what to do."""
    place = one_run_dir(run, run_dir)
    runs = rounds_of(look_at(named_recipe(recipe, place, overrides), place))
    if as_json:
        say_json(json.dumps(status_json(runs)))
    else:
        status_tables(runs)


def status_json(runs: Sequence[Run]) -> dict[str, Any]:
    """What there is to say of every stage; of later rounds as `round-k/stage`."""
    known: Known = {}
    found = {
        f"round-{number}/{name}" if number > 1 else name: _as_json(run, status)
        for number, run in enumerate(runs, 1)
        for name, status in _own(run, number, known).items()
    }
    for title, run, own in _variants(runs[0], known):
        found |= {f"{title}/{name}": _as_json(run, status) for name, status in own.items()}
    return found


def status_tables(runs: Sequence[Run]) -> None:
    """Print the states of all rounds to stdout, and the command that goes on."""
    known: Known = {}
    console = Console(highlight=False)
    at_rest = True
    for number, run in enumerate(runs, 1):
        own = _own(run, number, known)
        _table(console, run, own)
        at_rest = at_rest and all(status.state in RESTS for status in own.values())
    for _, run, variant in _variants(runs[0], known):
        _table(console, run, variant)
        at_rest = at_rest and all(status.state in RESTS for status in variant.values())
    next_command = f"next: {runs[0].command('run')}"
    say(f"\n{'everything is up to date' if at_rest else next_command}")


def _own(run: Run, number: int, known: Known) -> dict[str, StageStatus]:
    """The states of what a round runs itself."""
    statuses = run.statuses(known)
    return {stage.name: statuses[stage.name] for stage in stages_of(number)}


def _variants(first: Run, known: Known) -> Iterator[tuple[str, Run, dict[str, StageStatus]]]:
    """The combinations of a sweep: a title, the run, and the states of what it runs itself."""
    affected = affected_stages(first.recipe)
    for variant in first.recipe.variants:
        run = variant_run(first, variant, affected)
        statuses = run.statuses(known)
        own = {name: statuses[name] for name in run.recipe.stages if name != "evaluate"}
        yield f"{FOLDER}/{variant.point.name}", run, own


def _as_json(run: Run, status: StageStatus) -> dict[str, Any]:
    manifest = status.manifest
    return {
        "state": str(status.state),
        "why": status.why,
        "number": one_number(status.stage, run.directory / status.stage, manifest),
        "next": None if status.state in (*RESTS, State.RUNNING) else run.command(status.stage),
        "counts": manifest.counts if manifest else {},
        "wall_seconds": manifest.provenance.wall_seconds if manifest else None,
        "warnings": manifest.warnings if manifest else [],
    }


def _table(console: Console, run: Run, statuses: Mapping[str, StageStatus]) -> None:
    """A line a stage; what does not fit the terminal is cut, and whole in --json."""
    table = Table(title=str(run.directory), title_justify="left", box=None, padding=(0, 2, 0, 0))
    rows = [_cells(run, name, status) for name, status in statuses.items()]
    for header, cells in zip(("stage", "state", "time"), zip(*rows, strict=True), strict=False):
        # However long the words beside it are, what the stage is and does can be read.
        table.add_column(
            header,
            justify="right" if header == "time" else "left",
            no_wrap=True,
            min_width=max(len(cell) for cell in (header, *cells)),
        )
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _cells(run: Run, name: str, status: StageStatus) -> tuple[str, Text, str, Text]:
    manifest = status.manifest
    words = status.why or one_number(name, run.directory / name, manifest)
    took = duration(manifest.provenance.wall_seconds) if manifest else ""
    state = Text(str(status.state), style=_STYLES[status.state])
    return name, state, took, Text(visible(" ".join(words.split())))
