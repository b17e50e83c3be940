"""Fits of the length-controlled regression: the plain one, and one that always has an optimum.

Features are rows, the intercept the last; scores may be soft, and prompts weigh as often as they
were drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

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


Estimator = Callable[[Array, Array, Array, Calibration | None], Array | None]
"""Features (k, n), scores (n,), weights (n,), calibration -> coefficients (k,), None without."""


def plain(
    features: Array, scores: Array, weights: Array, calibration: Calibration | None
) -> Array | None:
    """Newton's method on the weighted log-loss; None where it diverges, as separable scores do."""
    wanted = _wanted(features, scores, weights, calibration)

    def step(coefficients: Array) -> Array:
        gradient, curvature = _derivatives(coefficients, features, weights, calibration)
        return np.asarray(np.linalg.solve(curvature, wanted - gradient), dtype=np.float64)

    return _newton(step, len(features))


def firth(
    features: Array, scores: Array, weights: Array, calibration: Calibration | None
) -> Array | None:
    """The fit with half of log |information| added to the log-likelihood, then FLIC.

    The penalty (G. Heinze and M. Schemper, Statistics in Medicine 21, 2002) draws towards one half
    by half a win and half a loss per coefficient, so that there is always an optimum; the intercept
    alone is then fitted again without it (R. Puhr et al., Statistics in Medicine 36, 2017): the
    mean prediction is the mean score, as in the plain fit. Where all is won, or lost, it stays.
    """
    wanted = _wanted(features, scores, weights, calibration)

    def score(coefficients: Array) -> tuple[Array, Array]:
        gradient, curvature = _derivatives(coefficients, features, weights, calibration)
        pull = _pull(coefficients, features, weights, curvature)
        if calibration is not None:
            rows = calibration.features.T
            times = np.full(rows.shape[1], calibration.weight)
            pull[:2] += _pull(coefficients[:2], rows, times, curvature, part=2)
        return wanted - gradient + pull, curvature

    def step(coefficients: Array) -> Array:
        here, curvature = score(coefficients)
        moves = _NEARBY * np.eye(len(coefficients))
        bend = np.stack(
            [(here - score(coefficients + move)[0]) / _NEARBY for move in moves], axis=1
        )
        bend = (bend + bend.T) / 2
        # Far from the optimum the penalty may bend the wrong way; the information leads there.
        useful = np.linalg.eigvalsh(bend)[0] > 0
        return np.asarray(np.linalg.solve(bend if useful else curvature, here), dtype=np.float64)

    found = _newton(step, len(features), _PENALISED_CONVERGED, _PENALISED_MAX_LOGIT)
    return None if found is None else _intercept_again(found, features, scores, weights)


def _pull(
    coefficients: Array, rows: Array, weights: Array, curvature: Array, part: int | None = None
) -> Array:
    """Gradient of the penalty: sum of h (1/2 - p) x, h a row's share in the information."""
    predicted = sigmoid(coefficients @ rows)
    inverse = np.linalg.inv(curvature)[:part, :part]
    leverage = weights * predicted * (1 - predicted) * np.einsum("kn,kl,ln->n", rows, inverse, rows)
    gradient: Array = rows @ (leverage * (0.5 - predicted))
    return gradient


def _intercept_again(coefficients: Array, features: Array, scores: Array, weights: Array) -> Array:
    """With the intercept at which the mean prediction is the mean score; found by halving."""
    won, total = float(weights @ scores), float(weights.sum())
    if not 0 < won < total:
        return coefficients
    offset = coefficients[:-1] @ features[:-1]
    low, high = -_PENALISED_MAX_LOGIT, _PENALISED_MAX_LOGIT
    while high - low > _CONVERGED:
        middle = (low + high) / 2
        if float(weights @ sigmoid(offset + middle)) < won:
            low = middle
        else:
            high = middle
    return np.append(coefficients[:-1], (low + high) / 2)


def _newton(
    step: Callable[[Array], Array],
    size: int,
    near: float = _CONVERGED,
    limit: float = _MAX_LOGIT,
) -> Array | None:
    coefficients = np.zeros(size)
    for _ in range(_MAX_STEPS):
        try:
            move = step(coefficients)
        except np.linalg.LinAlgError:
            return None
        largest = np.abs(move).max()
        if not np.isfinite(largest):
            return None
        coefficients = coefficients + move * min(1.0, _MAX_STEP / largest if largest else 1.0)
        if np.abs(coefficients).max() > limit:
            return None
        if largest < near:
            return coefficients
    return None


def _wanted(
    features: Array, scores: Array, weights: Array, calibration: Calibration | None
) -> Array:
    wanted: Array = features @ (weights * scores)
    if calibration is not None:
        wanted[:2] += calibration.label_sums
    return wanted


def _derivatives(
    coefficients: Array, features: Array, weights: Array, calibration: Calibration | None
) -> tuple[Array, Array]:
    predicted = sigmoid(coefficients @ features)
    gradient = features @ (weights * predicted)
    curvature = (features * (weights * predicted * (1 - predicted))) @ features.T
    if calibration is not None:
        rows = calibration.features.T
        expected = sigmoid(coefficients[:2] @ rows)
        gradient[:2] += calibration.weight * (rows @ expected)
        curvature[:2, :2] += (rows * (calibration.weight * expected * (1 - expected))) @ rows.T
    return gradient, curvature


def sigmoid(logits: Array) -> Array:
    """1 / (1 + exp(-logits)), without overflow."""
    probabilities: Array = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    return probabilities
