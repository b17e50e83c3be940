"""The plan before the spend: which stages would run, why, and what that would take."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.rounds import stages_of
from pipeline.runs import Run, StageStatus, State
from pipeline.watching import duration
from schemas.manifest import Manifest
from schemas.stage import Stage
from schemas.work import Work

_RESTS = (State.FRESH, State.SKIPPED)


@dataclass(frozen=True)
class Planned:
    """One stage of one round.

    Attributes:
        round: from 1.
        stage: its name.
        state: how it stands to the recipe now.
        why: the reason for it, "" where the state says it all.
        work: what it would do; None where it would do nothing, or nobody can say.
        seconds: how long that would take at the rate that was measured in this run before; None
            where nothing was measured.
    """

    round: int
    stage: str
    state: State
    why: str
    work: Work | None = None
    seconds: float | None = None

    @property
    def runs(self) -> bool:
        """Whether asking for it would do anything."""
        return self.state not in _RESTS


def plan(runs: Sequence[Run]) -> list[Planned]:
    """Every stage of every round, in the order of a run. Reads manifests, changes nothing."""
    counts: dict[Path, Mapping[str, int]] = {}
    rates: dict[str, float] = {}
    return [
        _planned(number, run, stage, status, counts, rates)
        for number, run in enumerate(runs, 1)
        for stage, status in _statuses(run, number)
    ]


def _statuses(run: Run, number: int) -> Iterator[tuple[Stage[Any], StageStatus]]:
    statuses = run.statuses()
    return ((stage, statuses[stage.name]) for stage in stages_of(number))


def _planned(
    number: int,
    run: Run,
    stage: Stage[Any],
    status: StageStatus,
    counts: dict[Path, Mapping[str, int]],
    rates: dict[str, float],
) -> Planned:
    """One stage's entry; notes its counts and its rate for the stages after it."""
    config = run.recipe.stages.get(stage.name)
    planned = Planned(number, stage.name, status.state, status.why)
    if config is None:
        return planned
    links = run.inputs(stage)
    known = {
        name: counts[link.directory] for name, link in links.items() if link.directory in counts
    }
    work = stage.work(config, known)
    if status.manifest is not None and work is not None:
        rates.update(_rate(stage.name, work.unit, status.manifest))
    here = run.directory / stage.name
    if not planned.runs:
        counts[here] = status.manifest.counts if status.manifest else {}
        return planned
    if work is None:
        return planned
    counts[here] = work.counts
    rate = rates.get(stage.name)
    seconds = None if work.units is None or rate is None else work.units * rate
    return Planned(number, stage.name, status.state, status.why, work, seconds)


def _rate(stage: str, unit: str, manifest: Manifest) -> dict[str, float]:
    """Seconds that one unit took, where the stage ran through without a break."""
    done = manifest.counts.get(unit)
    if not done or manifest.provenance.resumed:
        return {}
    return {stage: manifest.provenance.wall_seconds / done}


def plan_json(planned: Sequence[Planned]) -> dict[str, Any]:
    """The plan as plain values: `stages`, and `total` of what is known."""
    return {
        "stages": [_as_json(one) for one in planned],
        "total": {
            "stages": sum(one.runs for one in planned),
            "tokens": sum(one.work.tokens or 0 for one in planned if one.work),
            "seconds": round(sum(one.seconds or 0 for one in planned), 1),
        },
    }


def _as_json(one: Planned) -> dict[str, Any]:
    work = one.work
    return {
        "round": one.round,
        "stage": one.stage,
        "state": str(one.state),
        "runs": one.runs,
        "why": one.why,
        "unit": work.unit if work else None,
        "units": work.units if work else None,
        "tokens": work.tokens if work else None,
        "seconds": None if one.seconds is None else round(one.seconds, 1),
    }


def plan_table(planned: Sequence[Planned]) -> None:
    """Print the plan to stdout; what nobody knows yet is a question mark."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column, justify in _COLUMNS:
        table.add_column(column, justify=justify, overflow="fold")
    several = planned[-1].round > 1
    for one in planned:
        table.add_row(*_cells(one, several), style=None if one.runs else "dim")
    console = Console()
    console.print(table)
    total = plan_json(planned)["total"]
    console.print(f"\n{_total(planned, total)}", highlight=False)


_COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("stage", "left"),
    ("", "left"),
    ("at most", "right"),
    ("tokens", "right"),
    ("time", "right"),
    ("why", "left"),
)


def _cells(one: Planned, several: bool) -> list[Text | str]:
    name = f"{one.stage} (round {one.round})" if several else one.stage
    if not one.runs:
        return [name, "rests", "", "", "", Text(str(one.state))]
    work = one.work
    units = "?" if work is None or work.units is None else f"{work.units:,}"
    what = f"{units} {work.unit.replace('_', ' ')}" if work else "?"
    tokens = f"{work.tokens:,}" if work and work.tokens is not None else ""
    seconds = "?" if one.seconds is None else duration(one.seconds)
    return [name, "runs", what, tokens, seconds, Text(one.why or str(one.state))]


def _total(planned: Sequence[Planned], total: Mapping[str, Any]) -> str:
    if not total["stages"]:
        return "Everything is up to date: nothing would run."
    unknown = sum(one.runs and one.seconds is None for one in planned)
    said = f"{total['stages']} stages would run, {duration(total['seconds'])} at measured rates"
    if unknown:
        said += f", and {unknown} of them for a time that nothing in this run tells yet"
    return f"{said}; {total['tokens']:,} tokens at most."
