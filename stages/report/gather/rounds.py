"""Rounds of iterative training side by side: what the judge says, and what is true."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import DataError
from stages.report.charts.lines import Reference, Series, line_chart
from stages.report.gather.results import estimate
from stages.report.gather.sources import Json
from stages.report.page.figures import Figure

_EARLIER = "evaluate@"
_SERIES = (("judge", "policy", "the judge"), ("truth", "chosen", "the true rule"))


def rounds(inputs: Mapping[str, Path]) -> list[Json]:
    """Of each round, oldest first: `{round, judge, truth, gap}`; empty where there is but one.

    `judge` and `truth` are `{value, ci_low, ci_high, n}` of the declared measure against the one
    baseline, or None; `gap` is judge less truth. A gap that grows is a judge being exploited.
    """
    earlier = sorted(int(n.removeprefix(_EARLIER)) for n in inputs if n.startswith(_EARLIER))
    if not earlier or "evaluate" not in inputs:
        return []
    found = [_of(number, inputs[f"{_EARLIER}{number}"]) for number in earlier]
    return [*found, _of(earlier[-1] + 1, inputs["evaluate"])]


def _of(number: int, directory: Path) -> Json:
    path = directory / "win_rates.json"
    try:
        rates: Mapping[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); run that round's evaluate") from error
    judge, truth = (estimate((rates.get(by) or {}).get("headline")) for by in ("judge", "truth"))
    gap = judge["value"] - truth["value"] if judge and truth else None
    return {"round": number, "judge": judge, "truth": truth, "gap": gap}


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
