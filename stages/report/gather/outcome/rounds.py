"""Rounds of iterative training side by side: what the judge says, and what is true."""

from collections.abc import Mapping
from pathlib import Path

from schemas.results.base import Estimate, read_result
from schemas.results.report import Round
from schemas.results.win_rates import JudgeWinRate, WinRates
from stages.report.charts.lines import Reference, Series, line_chart
from stages.report.gather.sources import Json
from stages.report.page.figures import Figure

_EARLIER = "evaluate@"
_SERIES = (("judge", "policy", "the judge"), ("truth", "chosen", "the true rule"))


def rounds(inputs: Mapping[str, Path]) -> list[Round]:
    """Every round, oldest first; empty where there is but one.

    A gap that grows is a judge being exploited.
    """
    earlier = sorted(int(n.removeprefix(_EARLIER)) for n in inputs if n.startswith(_EARLIER))
    if not earlier or "evaluate" not in inputs:
        return []
    found = [_of(number, inputs[f"{_EARLIER}{number}"]) for number in earlier]
    return [*found, _of(earlier[-1] + 1, inputs["evaluate"])]


def _of(number: int, directory: Path) -> Round:
    rates = read_result(directory / "win_rates.json", WinRates)
    judge, truth = (_declared(rates.get(by)) for by in ("judge", "truth"))
    known = judge and truth and judge.value is not None and truth.value is not None
    gap = (judge.value or 0) - (truth.value or 0) if judge and truth and known else None
    return Round(round=number, judge=judge, truth=truth, gap=gap)


def _declared(rate: JudgeWinRate | None) -> Estimate | None:
    """The declared measure as an estimate; None where it was not taken."""
    if rate is None or rate.headline is None or rate.headline.value is None:
        return None
    return Estimate(**dict(rate.headline))


def rounds_figure(found: list[Json]) -> Figure | None:
    """Win rate by round, by the judge and by the truth."""
    series = [
        Series(label, tone, [(r["round"], r[by]["value"]) for r in found if r[by]])
        for by, tone, label in _SERIES
    ]
    drawn = [s for s in series if s.points]
    svg = line_chart("Win rate by round", drawn, [Reference("even", 0.5)], (0.0, 1.0), "round")
    if not svg:
        return None
    note = "Against the one baseline. Where the lines part, the judge is being exploited."
    legend = [(s.tone, s.label, s.points[-1][1], "") for s in drawn]
    return Figure("Win rate by round", note, svg, legend)
