"""Ratings of three or more models on the Elo scale, from all pairs that a judge has compared."""

import math
from collections.abc import Mapping

from evals.statistics.bradley_terry import DRAWS, Pair, Strength, strengths
from schemas.results.win_rates import ModelRating, Ratings

ANCHOR_ELO = 1000.0
ELO_PER_LOGIT = 400 / math.log(10)
"""On Elo's scale 400 points are odds of ten to one."""


def ratings(
    scores: Mapping[Pair, Mapping[str, float]], anchor: str, *, seed: int = 0
) -> Ratings | None:
    """Everyone's rating, best first; None below three models.

    Args:
        scores: (first, second) -> prompt_id -> score of the first in [0, 1].
        anchor: the model that stands at 1000.
        seed: of the redraws.
    """
    if len({name for pair in scores for name in pair}) < 3:
        return None
    found = strengths(scores, anchor, seed=seed)
    rows = [_row(name, strength) for name, strength in found.of.items()]
    n = sum(len(of) for pair, of in scores.items() if anchor in pair)
    rows.append(ModelRating(name=anchor, elo=ANCHOR_ELO, n=n))
    rows.sort(key=lambda row: (-(row.elo or 0.0), row.name))
    return Ratings(
        models=[*rows, *(ModelRating(name=name) for name in found.unconnected)],
        anchor=anchor,
        n_pairs=sum(bool(of) for of in scores.values()),
        n_prompts=len({prompt for of in scores.values() for prompt in of}),
        penalised=found.penalised,
        draws=DRAWS,
    )


def _row(name: str, found: Strength) -> ModelRating:
    ends = (ANCHOR_ELO + ELO_PER_LOGIT * x for x in (found.value, found.ci_low, found.ci_high))
    elo, low, high = ends
    return ModelRating(name=name, elo=elo, ci_low=low, ci_high=high, n=found.n)
