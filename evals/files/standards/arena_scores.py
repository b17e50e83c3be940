"""Arena-Hard's scores: weighted verdicts, the published bootstrap, and style control.

A question gives outcomes in both games, 1 for a win, 0.5 for a tie, a clear verdict (A>>B) three
times. A model's score is the mean of its outcomes; its interval the 5% to 95% quantile of 100 means
over outcomes drawn again. With style control a logistic regression over the outcomes of all models
has a strength of each model and the four differences in style, scaled to mean 0 and deviation 1
over all outcomes; the score is 1 / (1 + exp(-strength)), the median of 100 redrawn fits.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evals.files.standards.style import FEATURES
from evals.statistics.bradley_terry import fit
from schemas.results.win_rates import StandardScore

Array = npt.NDArray[np.float64]

ROUNDS = 100
CLEAR = 3
"""How often a clear verdict counts."""
_LEVELS = (0.05, 0.95)
_NO_SPREAD = 1e-12
_NO_END = 15.0
"""Logits beyond which a fit is on its way to no optimum."""
OUTCOMES: Mapping[str, tuple[float, ...]] = {
    "A>>B": (1.0,) * CLEAR,
    "A>B": (1.0,),
    "A=B": (0.5,),
    "B>A": (0.0,),
    "B>>A": (0.0,) * CLEAR,
}
"""Outcomes of A; other spellings are read by `outcomes_of`."""


@dataclass(frozen=True)
class Battles:
    """One question's outcomes of a model against its baseline, and how their styles differ.

    `style` is None where the answers are not known.
    """

    model: str
    category: str
    outcomes: Sequence[float]
    style: Sequence[float] | None = None


def outcomes_of(label: str) -> tuple[float, ...] | None:
    """The outcomes of A in one game; None where the label says nothing.

    `B<<A` is `A>>B`.
    """
    label = label.strip()
    if label[:1] == "B" and "<" in label:
        label = f"A{label[1:-1].replace('<', '>')}B"
    elif label[:1] == "A" and "<" in label:
        label = f"B{label[1:-1].replace('<', '>')}A"
    return OUTCOMES.get("A=B" if label == "B=A" else label)


def arena_scores(battles: Sequence[Battles], *, seed: int = 0) -> list[StandardScore]:
    """Every model's score in each category, and the style-controlled one where styles are known."""
    found = []
    for category in sorted({one.category for one in battles}):
        mine = [one for one in battles if one.category == category]
        controlled = _style_controlled(mine, seed)
        for model in sorted({one.model for one in mine}):
            own = [one for one in mine if one.model == model]
            found.append(_plain(model, category, own, seed).model_copy(update=controlled[model]))
    return found


def _plain(model: str, category: str, battles: Sequence[Battles], seed: int) -> StandardScore:
    outcomes = np.array([x for one in battles for x in one.outcomes])
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(outcomes), size=(ROUNDS, len(outcomes)))
    low, high = np.quantile(outcomes[drawn].mean(axis=1), _LEVELS).tolist()
    mean = math.fsum(outcomes.tolist()) / len(outcomes)
    return StandardScore(
        model=model, of=category, score=mean, ci_low=low, ci_high=high, n=len(battles)
    )


Filled = dict[str, float | dict[str, float] | None]


@dataclass(frozen=True)
class _Design:
    """One row a question and model: whose it is, the differences in style, and its outcomes.

    `place` of each outcome is its row.
    """

    rows: Array
    outcomes: Array
    place: npt.NDArray[np.int64]
    varying: npt.NDArray[np.bool_]
    zero: Array
    """What a difference of 0 was scaled to."""


def _style_controlled(battles: Sequence[Battles], seed: int) -> dict[str, Filled]:
    """Of each model the keys of its score that style control fills; none where it cannot be."""
    models = sorted({one.model for one in battles})
    design = _design(battles, models)
    found = None if design is None else _refits(design, seed)
    if design is None or found is None:
        return {model: {} for model in models}
    strength, slopes = found[:, : len(models)], found[:, len(models) :]
    even = strength + (slopes @ design.zero)[:, None]
    effects = dict.fromkeys(FEATURES, 0.0)
    known = [name for name, varies in zip(FEATURES, design.varying, strict=True) if varies]
    effects |= dict(zip(known, np.median(slopes, axis=0).tolist(), strict=True))
    return {
        model: _filled(strength[:, place], even[:, place]) | {"style_effects": effects}
        if np.abs(strength[:, place]).max() < _NO_END
        else {}
        for place, model in enumerate(models)
    }


def _filled(strength: Array, even: Array) -> Filled:
    rates = 1 / (1 + np.exp(-strength))
    low, high = np.quantile(rates, _LEVELS).tolist()
    middle, at_even = float(np.median(rates)), float(np.median(1 / (1 + np.exp(-even))))
    return {
        "style_controlled": middle,
        "style_low": low,
        "style_high": high,
        "even_style": at_even,
    }


def _design(battles: Sequence[Battles], models: Sequence[str]) -> _Design | None:
    """None where a style is not known, or the rows say too little to tell all columns apart."""
    if any(one.style is None for one in battles):
        return None
    style = np.array([one.style for one in battles], dtype=np.float64)
    place = np.repeat(np.arange(len(battles)), [len(one.outcomes) for one in battles])
    every = style[place]
    mean, spread = every.mean(axis=0), every.std(axis=0, ddof=int(len(every) > 1))
    varying = spread > _NO_SPREAD
    scaled = (style[:, varying] - mean[varying]) / spread[varying]
    whose = np.array([[float(one.model == name) for name in models] for one in battles])
    rows = np.concatenate([whose, scaled], axis=1)
    if len(rows) <= rows.shape[1] or np.linalg.matrix_rank(rows) < rows.shape[1]:
        return None
    outcomes = np.array([x for one in battles for x in one.outcomes])
    return _Design(rows, outcomes, place, varying, -mean[varying] / spread[varying])


def _refits(design: _Design, seed: int) -> Array | None:
    """Coefficients of 100 fits to redrawn outcomes; None where an effect of style has no end."""
    generator = np.random.default_rng(seed)
    n = len(design.outcomes)
    start = _fit(design, np.ones(n), None)
    if _runs_away(design, start[None]):
        return None
    draws = (np.bincount(generator.integers(0, n, size=n), minlength=n) for _ in range(ROUNDS))
    found = np.stack([_fit(design, times.astype(np.float64), start) for times in draws])
    return None if _runs_away(design, found) else found


def _runs_away(design: _Design, found: Array) -> bool:
    """Whether an effect of style has no end, as where length alone decides."""
    n_models = design.rows.shape[1] - int(design.varying.sum())
    return bool((np.abs(found[:, n_models:]) >= _NO_END).any())


def _fit(design: _Design, times: Array, start: Array | None) -> Array:
    size = len(design.rows)
    won: Array = np.bincount(design.place, times * design.outcomes, size).astype(np.float64)
    asked: Array = np.bincount(design.place, times, size).astype(np.float64)
    found: Array = fit(design.rows, won[None], asked[None], start)[0]
    return found
