"""The one number that decides, declared before anyone has seen it, and what it says in words."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from evals.statistics.estimates import estimate_mean
from evals.win_rate.length_control import LengthControlled
from evals.win_rate.win_rate import (
    Conclusion,
    Measure,
    VerdictRow,
    conclusion,
    detectable_effect,
    discrete_scores,
    prompt_scores,
    prompts_to_settle,
)

_NAMES: dict[Measure, str] = {
    "win_rate": "win rate",
    "length_controlled": "length-controlled win rate",
    "discrete": "discrete win rate",
}


@dataclass(frozen=True)
class Headline:
    """The declared measure of A over B against one half. Rates are in [0, 1].

    `minimum_detectable_effect` is the smallest distance from 0.5 that these prompts would show with
    80% power, `prompts_to_settle` the number at which the distance seen would be that; `statement`
    says all of it in words. Numbers are None where the measure could not be taken, which leaves the
    verdict at "cannot tell".
    """

    measure: Measure
    value: float | None
    standard_error: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    minimum_detectable_effect: float | None
    prompts_to_settle: int | None
    verdict: Conclusion
    statement: str

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)


def headline(
    measure: Measure, verdicts: Iterable[VerdictRow], controlled: LengthControlled
) -> Headline:
    """Take the declared measure of one judge's verdicts.

    Args:
        measure: which one decides.
        verdicts: VERDICTS rows of one judge.
        controlled: their length-controlled win rate, which may be none.
    """
    if measure == "length_controlled":
        c = controlled
        return _headline(
            measure, c.win_rate, c.standard_error, (c.ci_low, c.ci_high), c.n, c.reason or ""
        )
    scores = (discrete_scores if measure == "discrete" else prompt_scores)(verdicts)
    if not scores:
        return _headline(measure, None, None, (None, None), 0, "no verdict was scored")
    found = estimate_mean(scores)
    interval = (found.ci_low, found.ci_high)
    return _headline(measure, found.value, found.standard_error, interval, found.n, "")


def _headline(
    measure: Measure,
    value: float | None,
    error: float | None,
    interval: tuple[float | None, float | None],
    n: int,
    reason: str,
) -> Headline:
    low, high = interval
    if value is None or low is None or high is None:
        statement = f"Cannot tell: there is no {_NAMES[measure]}, as {reason}."
        return Headline(measure, None, None, None, None, n, None, None, "cannot tell", statement)
    detectable = detectable_effect(error, n)
    settle = prompts_to_settle(value, detectable, n)
    said = conclusion(low, high)
    statement = _statement(measure, value, (low, high), n, said)
    if said == "cannot tell":
        statement += _what_it_takes(detectable, settle, n)
    return Headline(measure, value, error, low, high, n, detectable, settle, said, statement)


def _statement(
    measure: Measure, value: float, interval: tuple[float, float], n: int, said: Conclusion
) -> str:
    low, high = interval
    return (
        f"{said.capitalize()}: {_NAMES[measure]} {value:.1%} "
        f"(95% interval {low:.1%} to {high:.1%}, {n:,} prompts)."
    )


def _what_it_takes(detectable: float | None, settle: int | None, n: int) -> str:
    words = ""
    if detectable is not None:
        words = (
            f" {n:,} prompts show a distance from 50% of {100 * detectable:.1f} points or more "
            "with 80% power"
        )
        words += f"; one like this would take about {settle:,}." if settle else "."
    return words
