"""The win rate of A over B, recomputed from saved verdicts and nothing else.

The unit is the prompt. A comparison's score is the mean of its orders, and it has none where an
order that was asked is unscored: half of a comparison would bring in the judge's bias for a place.
A prompt's score is the mean of its comparisons (several where several completions were sampled),
the win rate the mean over prompts. Sums are correctly rounded: the order of rows changes no bit.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from evals.judges.ratings.charging import answers_of, is_pointwise
from evals.statistics.conclusions import conclusion
from evals.statistics.intervals import wilson_effective
from evals.statistics.means import mean, standard_error
from evals.statistics.power import detectable_effect, prompts_to_settle
from evals.statistics.sequences import always_valid
from schemas.labels import Order
from schemas.results.win_rates import Position, WinRate, WorstCase

VerdictRow = Mapping[str, Any]
"""One row of the VERDICTS table; its probabilities speak of the comparison's own A and B."""

IDENTICAL = "identical completions"
"""The raw reply of a tie that needed no judge: both completions are the same text."""

_HARD = {"A": 1.0, "B": 0.0, "Tie": 0.5}


def win_rate(rows: Iterable[VerdictRow], *, until_settled: bool = False) -> WinRate:
    """Win rate of A over B from the verdicts of one judge.

    Args:
        rows: VERDICTS rows: every comparison once per order that was asked. A and B mean the same
            two policies in all of them.
        until_settled: the number of prompts was not fixed beforehand: the interval must be one
            that holds whenever one stops.

    Returns:
        Rates, clustered standard error, Wilson interval with effective n, counts and conclusion.

    Raises:
        ValueError: no rows, or rows of more than one judge.
    """
    listed = answers_of(rows)
    judges = {(row["judge"], row["judge_fingerprint"]) for row in listed}
    if len(judges) != 1:
        raise ValueError(f"a win rate is of one judge's verdicts; got {len(judges)} judges")
    soft = [*prompt_scores(listed).values()]
    hard = [*discrete_scores(listed).values()]
    wins, ties, losses = (hard.count(outcome) for outcome in (1.0, 0.5, 0.0))
    rate = mean(soft) if soft else None
    error = standard_error(soft)
    low, high = rate_interval(soft, until_settled=until_settled)
    failed = [row for row in listed if not _is_scored(row)]
    worst = worst_case(listed, until_settled=until_settled)
    return WinRate(
        n=len(soft),
        win_rate=rate,
        standard_error=error,
        ci_low=low,
        ci_high=high,
        discrete_win_rate=mean(hard) if hard else None,
        n_wins=wins,
        n_losses=losses,
        n_ties=ties,
        n_unscored=len(failed),
        n_unscored_prompts=len({row["prompt_id"] for row in listed}) - len(soft),
        n_identical=len({row["comparison_id"] for row in listed if _is_identical(row)}),
        n_verdicts=len(listed),
        unscored_reasons=dict(sorted(Counter(r["unscored_reason"] for r in failed).items())),
        worst_case=worst,
        position=position(listed),
        minimum_detectable_effect=None
        if rate is None or until_settled
        else detectable_effect(rate, error, len(soft)),
        prompts_to_settle=None if until_settled else prompts_to_settle(rate, error, len(soft)),
        pointwise=bool(listed) and all(map(is_pointwise, listed)),
        verdict=conclusion(worst.ci_low, worst.ci_high),
    )


def win_rates_by_category(
    rows: Iterable[VerdictRow], categories: Mapping[str, str | None]
) -> dict[str, WinRate]:
    """Win rates of the prompts of each category, by name; prompts without one are left out.

    Args:
        rows: VERDICTS rows of one judge.
        categories: prompt_id -> category.
    """
    groups: dict[str, list[VerdictRow]] = defaultdict(list)
    for row in rows:
        category = categories.get(row["prompt_id"])
        if category is not None:
            groups[category].append(row)
    return {name: win_rate(groups[name]) for name in sorted(groups)}


def prompt_scores(
    rows: Iterable[VerdictRow], *, hard: bool = False, unscored: float | None = None
) -> dict[str, float]:
    """Score of A in [0, 1] for each prompt, by prompt_id in sorted order.

    Args:
        rows: VERDICTS rows of one judge.
        hard: take each verdict as 1, 0.5 or 0 instead of its probabilities.
        unscored: the score that stands in for a comparison without one; None leaves it out.
    """
    by_comparison: dict[tuple[str, str], list[float | None]] = defaultdict(list)
    for row in rows:
        score = verdict_score(row, hard=hard) if _is_scored(row) else None
        by_comparison[row["prompt_id"], row["comparison_id"]].append(score)
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for (prompt, _), scores in by_comparison.items():
        known = [score for score in scores if score is not None]
        if len(known) == len(scores):
            by_prompt[prompt].append(mean(known))
        elif unscored is not None:
            by_prompt[prompt].append(unscored)
    return {prompt: mean(by_prompt[prompt]) for prompt in sorted(by_prompt)}


def discrete_scores(
    rows: Iterable[VerdictRow], *, unscored: float | None = None
) -> dict[str, float]:
    """1 for a prompt won, 0 for one lost, 0.5 for a tie, by its hard verdicts; by prompt_id."""
    means = prompt_scores(rows, hard=True, unscored=unscored)
    return {prompt: float(score > 0.5) + (score == 0.5) / 2 for prompt, score in means.items()}


def worst_case(
    rows: Sequence[VerdictRow], *, discrete: bool = False, until_settled: bool = False
) -> WorstCase:
    """The win rates if A had lost, or won, all that has no score, and what they leave open."""

    lost, won = worst_scores(rows, discrete=discrete)
    return WorstCase(
        low=mean(lost),
        high=mean(won),
        ci_low=rate_interval(lost, until_settled=until_settled)[0],
        ci_high=rate_interval(won, until_settled=until_settled)[1],
    )


def worst_scores(
    rows: Sequence[VerdictRow], *, discrete: bool = False
) -> tuple[list[float], list[float]]:
    """Scores of all prompts if A had lost what has no score, and if A had won it."""
    scores = discrete_scores if discrete else prompt_scores
    lost, won = (scores(rows, unscored=unscored) for unscored in (0.0, 1.0))
    return [*lost.values()], [*won.values()]


def position(rows: Iterable[VerdictRow]) -> Position:
    """The effect of the order shown, over the verdicts that one judge was asked for and gave.

    Where completions were rated by themselves, no order was shown, and there is none to tell of.
    """
    listed = [
        row for row in rows if _is_scored(row) and not _is_identical(row) and not is_pointwise(row)
    ]
    of_a: dict[str, list[float]] = {order.value: [] for order in Order}
    hard: dict[str, dict[str, float]] = defaultdict(dict)
    for row in listed:
        of_a[row["order"]].append(verdict_score(row))
        hard[row["comparison_id"]][row["order"]] = verdict_score(row, hard=True)
    a_first, a_second = of_a[Order.AB], of_a[Order.BA]
    both = [tuple(orders.values()) for orders in hard.values() if len(orders) == len(Order)]
    first = [*a_first, *(1 - score for score in a_second)]
    return Position(
        consistency=sum(one == other for one, other in both) / len(both) if both else None,
        p_first=mean(first) if first else None,
        gap=mean(a_first) - mean(a_second) if a_first and a_second else None,
        n_both_orders=len(both),
    )


def _is_scored(row: VerdictRow) -> bool:
    return row["verdict"] is not None


def _is_identical(row: VerdictRow) -> bool:
    return bool(row.get("raw") == IDENTICAL)


def verdict_score(row: VerdictRow, *, hard: bool = False) -> float:
    """1 where A wins, 0 where B does, of a scored verdict; hard: by the verdict alone."""
    if hard or row["p_a"] is None:
        return _HARD[row["verdict"]]
    return min(1.0, float(row["p_a"]) + float(row["p_tie"]) / 2)


def rate_interval(scores: Sequence[float], *, until_settled: bool = False) -> tuple[float, float]:
    """Of the mean of prompts' scores: Wilson's, or the one that holds whenever one stops."""
    if not scores:
        return 0.0, 1.0
    if until_settled:
        return always_valid(np.array(scores))
    error = standard_error(scores)
    return wilson_effective(mean(scores), math.nan if error is None else error, len(scores))
