"""Fits of the length-controlled regression: the plain one, and one that always has an optimum.

Many fits of the same scores are made at once, each with weights of its own: how often the prompts
were drawn for it. Features are rows, the intercept the last; scores may be soft. A fit that has no
finite optimum is NaN.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.win_rate.lengths import Array

ALPACA_PROMPTS = 805

_MAX_STEPS = 100
_CONVERGED = 1e-10
_NEARBY = 1e-5
_PENALISED_CONVERGED = 1e-7
"""Steps by differences of the gradient, `_NEARBY` apart, come no nearer than that."""

_MAX_LOGIT = 30.0
"""Beyond it a plain fit is running away."""

_PENALISED_MAX_LOGIT = 400.0
"""A penalised one comes to an end, where lengths all but separate wins from losses far out."""

_MAX_STEP = 3.0
"""Full steps overshoot where the loss is flat; a step of a few logits is always safe."""


@dataclass(frozen=True)
class Calibration:
    """Rows of known effect that steady the length and difficulty terms; they have no bias term.

    Their labels enter the likelihood only by the weighted sums of label times feature.

    Attributes:
        features: tanh of the standardised length difference, and difficulty, (m, 2).
        label_sums: sum over rows of weight * label * feature, (2,).
        weight: of each row, against 1 for a prompt.
    """

    features: Array
    label_sums: Array
    weight: float = 0.1

    def for_prompts(self, n: int) -> "Calibration":
        """With the weight that the rows have beside all 805 prompts of AlpacaEval, beside n."""
        share = min(1.0, n / ALPACA_PROMPTS)
        return Calibration(self.features, self.label_sums * share, self.weight * share)


Estimator = Callable[[Array, Array, Array, Calibration | None], Array]
"""Features (d, k, n), scores (n,), weights (d, n), calibration -> coefficients (d, k)."""

_Step = Callable[[Array, NDArray[np.intp]], Array]
"""Coefficients of some fits (r, k), and which those are (r,) -> how far to move them (r, k)."""


def plain(features: Array, scores: Array, weights: Array, calibration: Calibration | None) -> Array:
    """Newton's method on the weighted log-loss; NaN where it diverges, as separable scores do."""
    wanted = _wanted(features, scores, weights, calibration)

    def step(coefficients: Array, fits: NDArray[np.intp]) -> Array:
        gradient, curvature = _derivatives(coefficients, features[fits], weights[fits], calibration)
        return _solve(curvature, wanted[fits] - gradient)

    return _newton(step, features.shape[:2])


def firth(features: Array, scores: Array, weights: Array, calibration: Calibration | None) -> Array:
    """The fit with half of log |information| added to the log-likelihood, then FLIC.

    The penalty (G. Heinze and M. Schemper, Statistics in Medicine 21, 2002) draws towards one half
    by half a win and half a loss per coefficient, so that there is always an optimum; the intercept
    alone is then fitted again without it (R. Puhr et al., Statistics in Medicine 36, 2017): the
    mean prediction is the mean score, as in the plain fit. Where all is won, or lost, it stays.
    """
    wanted = _wanted(features, scores, weights, calibration)

    def score(coefficients: Array, fits: NDArray[np.intp]) -> tuple[Array, Array]:
        rows, times = features[fits], weights[fits]
        gradient, curvature = _derivatives(coefficients, rows, times, calibration)
        inverse = _inverse(curvature)
        pull = _pull(coefficients, rows, times, inverse)
        if calibration is not None:
            known = calibration.features.T[None]
            every = np.full((1, known.shape[2]), calibration.weight)
            pull[:, :2] += _pull(coefficients[:, :2], known, every, inverse[:, :2, :2])
        return wanted[fits] - gradient + pull, curvature

    def step(coefficients: Array, fits: NDArray[np.intp]) -> Array:
        here, curvature = score(coefficients, fits)
        moves = _NEARBY * np.eye(coefficients.shape[1])
        bend = np.stack(
            [(here - score(coefficients + move, fits)[0]) / _NEARBY for move in moves], axis=2
        )
        bend = (bend + bend.transpose(0, 2, 1)) / 2
        # Far from the optimum the penalty may bend the wrong way; the information leads there.
        finite = np.isfinite(bend).all(axis=(1, 2))
        useful = np.zeros(len(bend), dtype=bool)
        useful[finite] = np.linalg.eigvalsh(bend[finite])[:, 0] > 0
        return _solve(np.where(useful[:, None, None], bend, curvature), here)

    found = _newton(step, features.shape[:2], _PENALISED_CONVERGED, _PENALISED_MAX_LOGIT)
    return _intercept_again(found, features, scores, weights)


def _pull(coefficients: Array, rows: Array, weights: Array, inverse: Array) -> Array:
    """Gradient of the penalty: sum of h (1/2 - p) x, h a row's share in the information."""
    predicted = sigmoid(_sums(coefficients, rows))
    shares = ((inverse @ rows) * rows).sum(axis=1)
    leverage = weights * predicted * (1 - predicted) * shares
    return _weighed(rows, leverage * (0.5 - predicted))


def _intercept_again(coefficients: Array, features: Array, scores: Array, weights: Array) -> Array:
    """With the intercept at which the mean prediction is the mean score; found by halving."""
    won, total = weights @ scores, weights.sum(axis=1)
    offset = _sums(coefficients[:, :-1], features[:, :-1])
    low = np.full(len(coefficients), -_PENALISED_MAX_LOGIT)
    high = -low
    while (high - low).max(initial=0.0) > _CONVERGED:
        middle = (low + high) / 2
        below = (weights * sigmoid(offset + middle[:, None])).sum(axis=1) < won
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    is_open = np.isfinite(coefficients).all(axis=1) & (won > 0) & (won < total)
    fitted = coefficients.copy()
    fitted[is_open, -1] = ((low + high) / 2)[is_open]
    return fitted


def _newton(
    step: _Step,
    shape: tuple[int, ...],
    near: float = _CONVERGED,
    limit: float = _MAX_LOGIT,
) -> Array:
    """Where the steps of each fit come to rest; NaN where they do not, or run away."""
    coefficients, found = np.zeros(shape), np.full(shape, np.nan)
    fits = np.arange(shape[0])
    for _ in range(_MAX_STEPS):
        if not len(fits):
            break
        move = step(coefficients[fits], fits)
        largest = np.abs(move).max(axis=1)
        goes_on = np.isfinite(largest)
        fits, move, largest = fits[goes_on], move[goes_on], largest[goes_on]
        shorter = np.minimum(1.0, _MAX_STEP / np.maximum(largest, _MAX_STEP))
        coefficients[fits] += move * shorter[:, None]
        inside = np.abs(coefficients[fits]).max(axis=1, initial=0.0) <= limit
        rests = inside & (largest < near)
        found[fits[rests]] = coefficients[fits[rests]]
        fits = fits[inside & ~rests]
    return found


def _solve(matrices: Array, vectors: Array) -> Array:
    """(r, k) with matrices @ it = vectors; NaN where a matrix has no inverse."""
    try:
        return np.asarray(np.linalg.solve(matrices, vectors[:, :, None])[:, :, 0])
    except np.linalg.LinAlgError:
        return np.asarray((_inverse(matrices) @ vectors[:, :, None])[:, :, 0])


def _inverse(matrices: Array) -> Array:
    """Of each; NaN where it has none."""
    try:
        return np.asarray(np.linalg.inv(matrices))
    except np.linalg.LinAlgError:
        if len(matrices) == 1:
            return np.full_like(matrices, np.nan)
        return np.concatenate([_inverse(one[None]) for one in matrices])


def _wanted(
    features: Array, scores: Array, weights: Array, calibration: Calibration | None
) -> Array:
    wanted = _weighed(features, weights * scores)
    if calibration is not None:
        wanted[:, :2] += calibration.label_sums
    return wanted


def _derivatives(
    coefficients: Array, features: Array, weights: Array, calibration: Calibration | None
) -> tuple[Array, Array]:
    predicted = sigmoid(_sums(coefficients, features))
    gradient = _weighed(features, weights * predicted)
    curvature = _information(features, weights * predicted * (1 - predicted))
    if calibration is not None:
        rows = calibration.features.T[None]
        expected = sigmoid(_sums(coefficients[:, :2], rows))
        gradient[:, :2] += calibration.weight * _weighed(rows, expected)
        curvature[:, :2, :2] += _information(rows, calibration.weight * expected * (1 - expected))
    return gradient, curvature


def _sums(coefficients: Array, rows: Array) -> Array:
    """(d, k) and (d or 1, k, n) -> (d, n)."""
    sums: Array = (coefficients[:, None, :] @ rows)[:, 0, :]
    return sums


def _weighed(rows: Array, weights: Array) -> Array:
    """(d or 1, k, n) and (d, n) -> (d, k)."""
    sums: Array = (rows @ weights[:, :, None])[:, :, 0]
    return sums


def _information(rows: Array, weights: Array) -> Array:
    """(d or 1, k, n) and (d, n) -> (d, k, k)."""
    sums: Array = (rows * weights[:, None, :]) @ rows.transpose(0, 2, 1)
    return sums


def sigmoid(logits: Array) -> Array:
    """1 / (1 + exp(-logits)), without overflow."""
    probabilities: Array = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    return probabilities
