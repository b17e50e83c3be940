"""The one number that decides, declared before anyone has seen it, and what it says in words."""

from collections.abc import Sequence

from evals.statistics.conclusions import conclusion
from evals.statistics.estimates import estimate_mean
from evals.statistics.power import detectable_effect, prompts_to_settle
from evals.win_rate.win_rate import (
    VerdictRow,
    discrete_scores,
    prompt_scores,
    rate_interval,
    worst_case,
)
from schemas.results.base import Estimate
from schemas.results.measures import MEASURES, Measure
from schemas.results.win_rates import Headline, LengthControlled, WorstCase


def headline(
    measure: Measure,
    verdicts: Sequence[VerdictRow],
    controlled: LengthControlled,
    *,
    until_settled: bool = False,
) -> Headline:
    """Take the declared measure of one judge's verdicts.

    Args:
        measure: which one decides.
        verdicts: VERDICTS rows of one judge.
        controlled: their length-controlled win rate, which may be none.
        until_settled: prompts were judged until the measure was settled, so that its interval is
            the one that holds whenever one stops; the length-controlled rate has none.
    """
    asked = len({row["prompt_id"] for row in verdicts})
    if measure == "length_controlled":
        found = Estimate(**dict(controlled) | {"value": controlled.win_rate})
        worst = _all_one_way(found, asked)
        return _headline(measure, found, worst, asked, controlled.reason or "")
    discrete = measure == "discrete"
    scores = (discrete_scores if discrete else prompt_scores)(verdicts)
    found = estimate_mean(scores) if scores else Estimate()
    if scores and until_settled:
        low, high = rate_interval([*scores.values()], until_settled=True)
        found = found.model_copy(update={"ci_low": low, "ci_high": high})
    worst = worst_case(verdicts, discrete=discrete, until_settled=until_settled)
    made = _headline(measure, found, worst, asked, "no verdict was scored")
    return _stopped(made, asked) if until_settled else made


def _stopped(made: Headline, asked: int) -> Headline:
    """The same without the numbers of a test that looks once; it says how long was judged."""
    made = made.model_copy(
        update={
            "always_valid": True,
            "minimum_detectable_effect": None,
            "prompts_to_settle": None,
        }
    )
    return made.model_copy(update={"statement": f"{_statement(made, asked)} {STOPPED}"})


STOPPED = "Prompts were judged until it was settled; the interval holds whenever one stops."


def _all_one_way(found: Estimate, asked: int) -> WorstCase:
    """Bounds of a rate of `found.n` prompts where the rest had all been lost, or won."""
    if found.value is None or found.ci_low is None or found.ci_high is None:
        return WorstCase(low=0.0, high=1.0)
    share = min(1.0, found.n / asked)
    rest = 1 - share
    return WorstCase(
        low=share * found.value,
        high=share * found.value + rest,
        ci_low=share * found.ci_low,
        ci_high=share * found.ci_high + rest,
    )


def _headline(
    measure: Measure, found: Estimate, worst: WorstCase, asked: int, reason: str
) -> Headline:
    rate, n = found.value, found.n
    if rate is None or found.ci_low is None or found.ci_high is None:
        return Headline(
            measure=measure,
            value=None,
            ci_low=None,
            ci_high=None,
            n=n,
            verdict=conclusion(None, None),
            statement=f"Cannot tell: there is no {MEASURES[measure]}, as {reason}.",
        )
    made = Headline(
        measure=measure,
        value=rate,
        standard_error=found.standard_error,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        n=n,
        minimum_detectable_effect=detectable_effect(rate, found.standard_error, n),
        prompts_to_settle=prompts_to_settle(rate, found.standard_error, n),
        worst_case=worst,
        verdict=conclusion(worst.ci_low, worst.ci_high),
    )
    return made.model_copy(update={"statement": _statement(made, asked)})


def _statement(made: Headline, asked: int) -> str:
    said = (
        f"{made.verdict.capitalize()}: {MEASURES[made.measure]} {made.value:.1%} "
        f"(95% interval {made.ci_low:.1%} to {made.ci_high:.1%}, {made.n:,} prompts)"
    )
    if conclusion(made.ci_low, made.ci_high) != made.verdict:
        return said + _withheld(made, asked)
    if made.verdict == "cannot tell":
        return f"{said}.{_what_it_takes(made)}"
    return f"{said}."


def _withheld(made: Headline, asked: int) -> str:
    """Why an interval that lies on one side decides nothing: too much is missing."""
    worst = made.worst_case or WorstCase(low=0.0, high=1.0)
    missing = asked - made.n
    what = f"{missing:,} of {asked:,} prompts have" if missing else "some comparisons have"
    return (
        f", but {what} no score: from {worst.low:.1%} to {worst.high:.1%} if all of those had been "
        "lost, or won, so the answer hangs on them."
    )


def _what_it_takes(made: Headline) -> str:
    words = ""
    if made.minimum_detectable_effect is not None:
        words = (
            f" {made.n:,} prompts show a distance from 50% of "
            f"{100 * made.minimum_detectable_effect:.1f} points or more with 80% power"
        )
        settle = made.prompts_to_settle
        words += f"; one like this would take about {settle:,}." if settle else "."
    return words
