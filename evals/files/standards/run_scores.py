"""The scores of a standard set from a run's own verdicts, by the set's rules."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.files.standards.arena_scores import ROUNDS, Battles, arena_scores, outcomes_of
from evals.files.standards.mt_bench_scores import mean_score, pair_scores, rating_scores
from evals.files.standards.sets import Standard
from evals.files.standards.style import counts_of, difference
from evals.judges.layout import answer_text
from evals.win_rate.win_rate import prompt_scores
from schemas.labels import Order
from schemas.results.win_rates import StandardScore

Row = Mapping[str, Any]

_SURE = 0.99
"""Probability from which on a verdict on a scale is a clear one; a slight one has 0.75."""


@dataclass(frozen=True)
class PlayedMatch:
    """A model's comparisons with the baseline, it being A, and one judge's verdicts on them."""

    model: str
    comparisons: Sequence[Row]
    verdicts: Sequence[Row]


def run_scores(
    standard: Standard, matches: Sequence[PlayedMatch], turns: Mapping[str, int], *, graded: bool
) -> list[StandardScore]:
    """Every model's score.

    Args:
        standard: the set.
        matches: of one judge.
        turns: prompt_id -> number of the turn from 0, for a set of several turns.
        graded: the judge's verdicts say how far one side is ahead.
    """
    if standard.is_arena_hard:
        battles = [one for match in matches for one in _battles(match, graded)]
        return arena_scores(battles) if battles else []
    if standard.name == "mt-bench":
        played = [(match.model, match.comparisons, match.verdicts) for match in matches]
        of_pairs = [one for m in matches for one in pair_scores(m.model, _in_both_orders(m), turns)]
        return [*rating_scores(played, turns), *of_pairs]
    return [score for match in matches for score in _mean(match, "win rate", match.verdicts)]


def _battles(match: PlayedMatch, graded: bool) -> Iterator[Battles]:
    """Those of comparisons that have a verdict in both orders."""
    for comparison, (ab, ba) in _in_both_orders(match):
        outcomes = [*(_outcomes(ab, graded) or ()), *(_outcomes(ba, graded) or ())]
        one, other = (counts_of(answer_text(comparison[f"completion_{side}"])) for side in "ab")
        category = str(comparison["category"] or "all")
        yield Battles(match.model, category, outcomes, difference(one, other))


def _outcomes(row: Row, graded: bool) -> tuple[float, ...] | None:
    """Of A, by the verdict's label; on a scale a clear verdict counts three times."""
    verdict = str(row["verdict"])
    if verdict == "Tie":
        return outcomes_of("A=B")
    clear = graded and max(row["p_a"] or 0.0, row["p_b"] or 0.0) > _SURE
    sign = ">>" if clear else ">"
    return outcomes_of(f"A{sign}B" if verdict == "A" else f"B{sign}A")


def _mean(match: PlayedMatch, of: str, verdicts: Sequence[Row]) -> Iterator[StandardScore]:
    if scores := prompt_scores(verdicts):
        yield mean_score(match.model, of, scores, {})


def _in_both_orders(match: PlayedMatch) -> Iterator[tuple[Row, tuple[Row, Row]]]:
    """Comparisons that are scored in both orders, with the two verdicts."""
    said: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in match.verdicts:
        if row["verdict"] is not None:
            said[row["comparison_id"]][row["order"]] = row
    for comparison in match.comparisons:
        found = said[comparison["comparison_id"]]
        if len(found) == len(Order):
            yield comparison, (found[Order.AB.value], found[Order.BA.value])


def levels_and_rounds(standard: Standard) -> tuple[tuple[float, float], int]:
    """The quantiles that a set's intervals are, and its redraws."""
    return ((0.05, 0.95), ROUNDS) if standard.is_arena_hard else ((0.025, 0.975), 0)
