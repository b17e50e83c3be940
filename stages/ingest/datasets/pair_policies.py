"""Which two of several scored completions of a prompt are compared."""

from collections.abc import Sequence
from itertools import combinations
from random import Random
from typing import Annotated, Literal

from pydantic import Field

from schemas.ids import seed_from
from schemas.stage import Config

Pairs = list[tuple[int, int]]


class BestWorst(Config):
    """The highest score against the lowest: one comparison a prompt, a Tie if all are equal."""

    kind: Literal["best_worst"] = Field("best_worst", description="highest against lowest score")

    def pick(self, scores: Sequence[float], prompt: str) -> Pairs:
        """(better, worse) positions; among equal scores the first is best, the last worst."""
        return [(_best(scores), _worst(scores))]


class BestRandom(Config):
    """The highest score against a random other, as the binarized releases were made."""

    kind: Literal["best_random"] = Field(
        "best_random", description="highest score against one of the others, drawn by seed"
    )
    seed: int = Field(42, description="seed of the draw; the prompt's text decides the rest")

    def pick(self, scores: Sequence[float], prompt: str) -> Pairs:
        """One (better, other) pair; the same for a prompt whatever stands around it."""
        best = _best(scores)
        others = [i for i in range(len(scores)) if i != best]
        return [(best, Random(seed_from(self.seed, "best_random", prompt)).choice(others))]


class AllAboveMargin(Config):
    """Every two whose scores are at least `min_margin` apart: up to six comparisons of four."""

    kind: Literal["all_above_margin"] = Field(
        "all_above_margin", description="every two completions whose scores are far enough apart"
    )
    min_margin: float = Field(1.0, gt=0, description="least difference of the scores")

    def pick(self, scores: Sequence[float], prompt: str) -> Pairs:
        """All (better, worse) pairs in order of their places; none where all are too close."""
        ordered = (
            (i, j) if scores[i] > scores[j] else (j, i)
            for i, j in combinations(range(len(scores)), 2)
        )
        return [(i, j) for i, j in ordered if scores[i] - scores[j] >= self.min_margin]


PairPolicy = Annotated[BestWorst | BestRandom | AllAboveMargin, Field(discriminator="kind")]


def _best(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=lambda i: (scores[i], -i))


def _worst(scores: Sequence[float]) -> int:
    return min(range(len(scores)), key=lambda i: (scores[i], -i))
