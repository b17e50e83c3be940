"""What a judge's verdicts say by each criterion, and how both sides are rated where they are."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evals.judges.ratings.charging import answers_of
from evals.statistics.estimates import estimate_mean, paired_difference
from evals.statistics.means import mean
from evals.win_rate.win_rate import IDENTICAL, VerdictRow, prompt_scores
from schemas.results.base import Estimate
from schemas.results.win_rates import CriterionRate, RatedSides
from schemas.tables import RATING

_LEAST, _MOST = RATING
_SPAN = _MOST - _LEAST

Sides = Sequence[tuple[str, float, float]]
"""Prompt, rating of A and rating of B, of each comparison that has both."""


def criterion_rates(rows: Iterable[VerdictRow]) -> dict[str, CriterionRate]:
    """The win rate of A over B by each criterion, in the order of the judge; none without any.

    Units and scores are those of `evals.win_rate.win_rate`: a comparison has a score where every
    order that was asked has one.

    Args:
        rows: VERDICTS rows of one judge.
    """
    own = answers_of(rows)
    weights = {c["criterion"]: c["weight"] for row in own for c in row.get("criteria") or ()}
    return {name: _rate(name, weight, own) for name, weight in weights.items()}


def rated_sides(rows: Iterable[VerdictRow]) -> RatedSides | None:
    """The whole ratings of both sides; None of a judge that does not rate."""
    own = [row for row in answers_of(rows) if row.get("rating_a") is not None]
    return _sides(
        [
            (row["prompt_id"], row["rating_a"], row["rating_b"])
            for row in own
            if row["rating_b"] is not None
        ]
    )


def mean_rating(
    ratings: Mapping[str, float], clusters: Mapping[str, str] | None = None
) -> Estimate:
    """Mean of ratings by unit, with an interval that cannot leave the scale."""
    shares = {unit: (rating - _LEAST) / _SPAN for unit, rating in ratings.items()}
    return _unscaled(estimate_mean(shares, clusters), _LEAST)


def without_reference(rows: Iterable[VerdictRow]) -> int | None:
    """Prompts judged without a reference answer; None of a judge that is shown none."""
    said = {
        row["prompt_id"]: row["with_reference"]
        for row in rows
        if row.get("with_reference") is not None
    }
    return sum(not shown for shown in said.values()) if said else None


def _rate(name: str, weight: float, rows: Sequence[VerdictRow]) -> CriterionRate:
    found = [(row, _of(row, name)) for row in rows]
    scores = prompt_scores(_as_verdict(row, said) for row, said in found)
    rate = estimate_mean(scores) if scores else Estimate()
    rated = [
        (row["prompt_id"], said["rating_a"], said["rating_b"])
        for row, said in found
        if said is not None and said["rating_a"] is not None
    ]
    return CriterionRate(**dict(rate), weight=weight, ratings=_sides(rated))


def _of(row: VerdictRow, name: str) -> Mapping[str, Any] | None:
    return next((c for c in row.get("criteria") or () if c["criterion"] == name), None)


def _as_verdict(row: VerdictRow, said: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the criterion says, as if it were all that the judge had said."""
    kept = {"prompt_id": row["prompt_id"], "comparison_id": row["comparison_id"]}
    if said is None:  # identical completions tie by every criterion
        tie = row["verdict"] if row["verdict"] == "Tie" and row.get("raw") == IDENTICAL else None
        return kept | {"verdict": tie, "p_a": None, "p_tie": None}
    return kept | {"verdict": "A", "p_a": said["score_a"], "p_tie": 0.0}


def _sides(rated: Sides) -> RatedSides | None:
    if not rated:
        return None
    of_a, of_b = _by_prompt(rated, 1), _by_prompt(rated, 2)
    difference = paired_difference(of_a, of_b)
    assert difference is not None  # both sides have the same prompts
    return RatedSides(
        policy=_unscaled(estimate_mean(of_a), _LEAST),
        baseline=_unscaled(estimate_mean(of_b), _LEAST),
        difference=_unscaled(difference, 0.0),
    )


def _by_prompt(rated: Sides, side: int) -> dict[str, float]:
    """Ratings as shares of the scale, whose intervals cannot leave it: mean of each prompt."""
    found: dict[str, list[float]] = defaultdict(list)
    for one in rated:
        found[one[0]].append((float(one[side]) - _LEAST) / _SPAN)
    return {prompt: mean(found[prompt]) for prompt in sorted(found)}


def _unscaled(share: Estimate, least: float) -> Estimate:
    """The same in the numbers of the scale."""

    def back(value: float | None) -> float | None:
        return None if value is None else least + _SPAN * value

    error = None if share.standard_error is None else _SPAN * share.standard_error
    ends = {name: back(getattr(share, name)) for name in ("value", "ci_low", "ci_high")}
    return Estimate(**ends, standard_error=error, n=share.n)
