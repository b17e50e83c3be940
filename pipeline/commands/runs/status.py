"""The state of a run's stages, as a table and as JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.commands.named_run import look_at
from pipeline.commands.options import (
    JsonOption,
    RecipeOption,
    RunDirOption,
    SetOption,
    resolve,
)
from pipeline.display.terminal_text import visible
from pipeline.runs.rounds import rounds_of, stages_of
from pipeline.runs.run import Run
from pipeline.runs.stage_status import Known, StageStatus, State

_STYLES = {
    State.FRESH: "green",
    State.STALE: "yellow",
    State.PARTIAL: "yellow",
    State.RUNNING: "cyan",
    State.DAMAGED: "red",
    State.INCOMPLETE: "yellow",
    State.MISSING: "dim",
    State.SKIPPED: "dim",
}


def status(
    recipe: RecipeOption,
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which stages are fresh, stale, interrupted or missing, and why."""
    runs = rounds_of(look_at(resolve(recipe, overrides), run_dir))
    if as_json:
        typer.echo(json.dumps(status_json(runs)))
    else:
        status_tables(runs)


def status_json(runs: Sequence[Run]) -> dict[str, Any]:
    """State, reason, counts and seconds of every stage; of later rounds as `round-k/stage`."""
    known: Known = {}
    return {
        f"round-{number}/{name}" if number > 1 else name: _as_json(status)
        for number, run in enumerate(runs, 1)
        for name, status in _own(run, number, known).items()
    }


def status_tables(runs: Sequence[Run]) -> None:
    """Print the states of all rounds to stdout."""
    known: Known = {}
    for number, run in enumerate(runs, 1):
        _table(run.directory, _own(run, number, known))


def _own(run: Run, number: int, known: Known) -> dict[str, StageStatus]:
    """The states of what a round runs itself."""
    statuses = run.statuses(known)
    return {stage.name: statuses[stage.name] for stage in stages_of(number)}


def _as_json(status: StageStatus) -> dict[str, Any]:
    return {
        "state": str(status.state),
        "why": status.why,
        "counts": status.manifest.counts if status.manifest else {},
        "wall_seconds": status.manifest.provenance.wall_seconds if status.manifest else None,
        "warnings": status.manifest.warnings if status.manifest else [],
    }


def _table(directory: Path, statuses: Mapping[str, StageStatus]) -> None:
    table = Table(title=str(directory), title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("stage")
    table.add_column("state")
    table.add_column("seconds", justify="right")
    table.add_column("counts, or why", overflow="fold")
    for name, status in statuses.items():
        manifest = status.manifest
        counts = manifest.counts if manifest else {}
        words = status.why or ", ".join(f"{k} {v:,}" for k, v in counts.items() if "/" not in k)
        seconds = f"{manifest.provenance.wall_seconds:.1f}" if manifest else ""
        state = Text(str(status.state), style=_STYLES[status.state])
        table.add_row(name, state, seconds, Text(visible(words)))
    Console().print(table)
