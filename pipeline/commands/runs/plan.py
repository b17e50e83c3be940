"""The plan before the spend: which stages would run, why, and what that would take."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from pipeline.display.console import Console
from pipeline.display.pace import duration
from pipeline.runs.rounds import stages_of
from pipeline.runs.run import Run
from pipeline.runs.stage_status import RESTS, Known, StageStatus, State
from schemas.manifest import Manifest
from schemas.stage import Stage
from schemas.work import Work


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
        is_paid: whether its verdicts come from a judge with a price.
        cost: what they would cost at the mean price of a verdict in this run before, in the
            prices' currency; None where nothing was measured.
    """

    round: int
    stage: str
    state: State
    why: str
    work: Work | None = None
    seconds: float | None = None
    is_paid: bool = False
    cost: float | None = None

    @property
    def runs(self) -> bool:
        """Whether asking for it would do anything."""
        return self.state not in RESTS


def plan(runs: Sequence[Run]) -> list[Planned]:
    """Every stage of every round, in the order of a run. Reads manifests, changes nothing."""
    planner, known = _Planner(), Known()
    return [
        planner.planned(number, run, stage, status)
        for number, run in enumerate(runs, 1)
        for stage, status in _statuses(run, number, known)
    ]


def _statuses(run: Run, number: int, known: Known) -> Iterator[tuple[Stage[Any], StageStatus]]:
    statuses = run.statuses(known)
    return ((stage, statuses[stage.name]) for stage in stages_of(number))


_ASKED = ("verdicts", "ratings")
"""What judges are asked for; of a judge that rates, both orders of a comparison follow."""


class _Planner:
    """Goes through the stages in order, and keeps what later ones are estimated from."""

    def __init__(self) -> None:
        self._counts: dict[Path, Mapping[str, int]] = {}
        self._seconds: dict[str, float] = {}
        self._cost_of: dict[str, float] = {}

    def planned(self, number: int, run: Run, stage: Stage[Any], status: StageStatus) -> Planned:
        """One stage's entry."""
        found = Planned(number, stage.name, status.state, status.why)
        config = run.recipe.stages.get(stage.name)
        if config is None:
            return found
        places = {name: link.directory for name, link in run.inputs(stage).items()}
        known = {n: self._counts[place] for n, place in places.items() if place in self._counts}
        work = stage.work(config, known)
        if status.manifest is not None:
            self._learn(stage.name, work, status.manifest)
        if not found.runs or work is None:
            done = status.manifest.counts if status.manifest and not found.runs else {}
            self._counts[run.directory / stage.name] = done
            return found
        self._counts[run.directory / stage.name] = work.counts
        seconds = _times(work.units, self._seconds.get(stage.name))
        paid = work.unit in _ASKED and _is_paid(run)
        cost = _times(work.units, self._cost_of.get(work.unit)) if paid else None
        return replace(found, work=work, seconds=seconds, cost=cost, is_paid=paid)

    def _learn(self, stage: str, work: Work | None, manifest: Manifest) -> None:
        """What one unit took, where the stage ran through without a break; what a verdict cost."""
        units = manifest.counts.get(work.unit) if work else None
        if units and not manifest.provenance.resumed:
            self._seconds[stage] = manifest.provenance.wall_seconds / units
        cost = manifest.counts.get("judge_cost_millionths")
        unit = "ratings" if manifest.counts.get("ratings") else "verdicts"
        if cost is not None and (asked := manifest.counts.get(unit)):
            self._cost_of[unit] = cost / asked / 1e6


def _times(units: int | None, each: float | None) -> float | None:
    return None if units is None or each is None else units * each


def _is_paid(run: Run) -> bool:
    """Whether the recipe's judge is behind a server that has a price."""
    judge = getattr(run.recipe.stages.get("judge"), "judge", None)
    prices = run.recipe.runtime.judge_server
    priced = prices.price_per_million_prompt_tokens or prices.price_per_million_completion_tokens
    return bool(priced) and getattr(judge, "server", None) is not None


def plan_json(planned: Sequence[Planned]) -> dict[str, Any]:
    """The plan as plain values: `stages`, and `total` of what is known."""
    return {
        "stages": [_as_json(one) for one in planned],
        "total": {
            "stages": sum(one.runs for one in planned),
            "tokens": sum(one.work.tokens or 0 for one in planned if one.work),
            "seconds": round(sum(one.seconds or 0 for one in planned), 1),
            "cost": round(sum(one.cost or 0 for one in planned), 6),
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
        "cost": None if one.cost is None else round(one.cost, 6),
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
    ("cost", "right"),
    ("why", "left"),
)


def _cells(one: Planned, several: bool) -> list[Text | str]:
    name = f"{one.stage} (round {one.round})" if several else one.stage
    if not one.runs:
        return [name, "rests", "", "", "", "", Text(str(one.state))]
    work = one.work
    units = "?" if work is None or work.units is None else f"{work.units:,}"
    what = f"{units} {work.unit.replace('_', ' ')}" if work else "?"
    tokens = f"{work.tokens:,}" if work and work.tokens is not None else ""
    seconds = "?" if one.seconds is None else duration(one.seconds)
    cost = "" if not one.is_paid else "?" if one.cost is None else f"{one.cost:,.2f}"
    return [name, "runs", what, tokens, seconds, cost, Text(one.why or str(one.state))]


def _total(planned: Sequence[Planned], total: Mapping[str, Any]) -> str:
    if not total["stages"]:
        return "Everything is up to date: nothing would run."
    unknown = sum(one.runs and one.seconds is None for one in planned)
    said = f"{total['stages']} stages would run, {duration(total['seconds'])} at measured rates"
    if unknown:
        said += f", and {unknown} of them for a time that nothing in this run tells yet"
    if any(one.is_paid for one in planned):
        open_end = any(one.is_paid and one.cost is None for one in planned)
        more = ", and what no verdict of this run tells yet" if open_end else ""
        said += f"; {total['cost']:,.2f} for the judge at the mean cost of its verdicts{more}"
    return f"{said}; {total['tokens']:,} tokens of completions at most."
