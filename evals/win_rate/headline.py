"""The one number that decides, declared before anyone has seen it, and what it says in words."""

from collections.abc import Iterable

from evals.statistics.conclusions import conclusion
from evals.statistics.estimates import estimate_mean
from evals.win_rate.win_rate import (
    VerdictRow,
    detectable_effect,
    discrete_scores,
    prompt_scores,
    prompts_to_settle,
)
from schemas.results.win_rates import MEASURES, Conclusion, Headline, LengthControlled, Measure


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
    said = conclusion(low, high)
    if value is None or low is None or high is None:
        statement = f"Cannot tell: there is no {MEASURES[measure]}, as {reason}."
        return Headline(
            measure=measure,
            value=None,
            ci_low=None,
            ci_high=None,
            n=n,
            verdict=said,
            statement=statement,
        )
    detectable = detectable_effect(error, n)
    settle = prompts_to_settle(value, detectable, n)
    statement = _statement(measure, value, (low, high), n, said)
    if said == "cannot tell":
        statement += _what_it_takes(detectable, settle, n)
    return Headline(
        measure=measure,
        value=value,
        standard_error=error,
        ci_low=low,
        ci_high=high,
        n=n,
        minimum_detectable_effect=detectable,
        prompts_to_settle=settle,
        verdict=said,
        statement=statement,
    )


def _statement(
    measure: Measure, value: float, interval: tuple[float, float], n: int, said: Conclusion
) -> str:
    low, high = interval
    return (
        f"{said.capitalize()}: {MEASURES[measure]} {value:.1%} "
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
