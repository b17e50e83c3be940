"""The win rate that would be if both sides wrote equally much: AlpacaEval 2's regression.

(Y. Dubois et al., Length-Controlled AlpacaEval, arXiv 2404.04475.) The score y of a prompt is
fitted by a logistic regression without intercept on

    tanh((len_baseline - len_policy) / std),  the prompt's difficulty,  1

with std over the prompts (ddof 1). The length-controlled rate is the mean prediction with the
length term at 0; where all lengths are equal it is the win rate. Fitted by Newton's method without
a penalty. Lengths are in characters.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from evals.statistics.intervals import wilson_effective
from evals.statistics.means import mean, standard_error
from evals.win_rate.lengths import Array, LengthSample, length_overlap
from schemas.results.win_rates import LengthControlled

ALPACA_PROMPTS = 805
DRAWS = 400
MIN_PROMPTS = 20
"""Three coefficients fitted to fewer prompts say nothing."""

MIN_FITTED = 0.95
"""Share of the redrawn sets that must have a fit for their spread to mean something."""

_MAX_STEPS = 100
_CONVERGED = 1e-10
_MAX_LOGIT = 30.0


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


def length_controlled(
    sample: LengthSample,
    calibration: Calibration | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> LengthControlled:
    """The length-controlled win rate; its error is the spread of refits on redrawn prompts.

    Unlike the spread of the predictions, which is several times too small, that holds what the
    coefficients do not know. The interval is Wilson's with the effective n of this error.

    Args:
        sample: one row per prompt.
        calibration: used where the sample has difficulties.
        draws: of the bootstrap over prompts.
        seed: of the bootstrap.
    """
    if sample.difficulty is None:
        calibration = None
    if calibration is not None:
        calibration = calibration.for_prompts(sample.n)
    rate, error, reason = _estimate(sample, calibration, draws, seed)
    low, high = None, None
    if rate is not None and error is not None:
        low, high = wilson_effective(rate, error, sample.n)
    return LengthControlled(
        n=sample.n,
        win_rate=rate,
        standard_error=error,
        ci_low=low,
        ci_high=high,
        overlap=length_overlap(sample) if sample.n else None,
        uses_difficulty=sample.difficulty is not None,
        uses_calibration=calibration is not None,
        draws=draws,
        reason=reason,
    )


def _estimate(
    sample: LengthSample, calibration: Calibration | None, draws: int, seed: int
) -> tuple[float | None, float | None, str | None]:
    """Rate, bootstrap error, and why there is none."""
    if reason := _unfit(sample):
        return None, None, reason
    if not sample.shortfall.any():
        scores = sample.scores.tolist()
        return mean(scores), standard_error(scores), None
    rate = float(_rates(sample, calibration, [np.ones(sample.n)])[0])
    if not np.isfinite(rate):
        return None, None, "the regression has no finite optimum: the scores are separable"
    redrawn = _rates(sample, calibration, _redraws(sample.n, draws, seed))
    redrawn = redrawn[np.isfinite(redrawn)]
    if len(redrawn) < MIN_FITTED * draws:
        return None, None, "the regression has no finite optimum on too many redrawn prompt sets"
    return rate, float(redrawn.std(ddof=1)), None


def _unfit(sample: LengthSample) -> str | None:
    if sample.n < MIN_PROMPTS:
        return f"{sample.n} prompts are too few for the regression; it takes {MIN_PROMPTS}"
    if np.ptp(sample.shortfall) == 0 and sample.shortfall.any():
        return "the lengths differ by the same on every prompt, so their effect cannot be told"
    return None


def _redraws(n: int, draws: int, seed: int) -> Iterator[Array]:
    """How often each prompt is in a bootstrap sample, (n,), once per draw."""
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        yield generator.multinomial(n, np.full(n, 1 / n)).astype(np.float64)


def _rates(
    sample: LengthSample, calibration: Calibration | None, weightings: Iterable[Array]
) -> Array:
    """The length-controlled rate of each weighting of the prompts, each (n,).

    NaN where a regression has no finite optimum.
    """
    bias = np.ones(sample.n)
    fixed = np.stack([bias] if sample.difficulty is None else [sample.difficulty, bias])
    return np.array([_rate(sample, calibration, fixed, weights) for weights in weightings])


def _rate(
    sample: LengthSample, calibration: Calibration | None, fixed: Array, weights: Array
) -> float:
    features = np.vstack([_length_feature(sample, weights), fixed])
    coefficients = _fit(features, sample.scores, weights, calibration)
    if coefficients is None:
        return np.nan
    return float(weights @ _sigmoid(coefficients[1:] @ fixed) / weights.sum())


def _length_feature(sample: LengthSample, weights: Array) -> Array:
    """tanh((len_baseline - len_policy) / std), std with ddof 1 of the weighted prompts: (n,)."""
    size = weights.sum()
    center = weights @ sample.shortfall / size
    std = np.sqrt(weights @ (sample.shortfall - center) ** 2 / max(size - 1, 1))
    feature: Array = np.tanh(sample.shortfall / std) if std > 0 else np.zeros(sample.n)
    return feature


def _fit(
    features: Array, scores: Array, weights: Array, calibration: Calibration | None
) -> Array | None:
    """Newton's method on the weighted log-loss: (k, n) features -> (k,); None if it diverges."""
    wanted = features @ (weights * scores)
    if calibration is not None:
        wanted[:2] += calibration.label_sums
    coefficients = np.zeros(len(features))
    for _ in range(_MAX_STEPS):
        gradient, curvature = _derivatives(coefficients, features, weights, calibration)
        try:
            step = np.linalg.solve(curvature, wanted - gradient)
        except np.linalg.LinAlgError:
            return None
        largest = np.abs(step).max()
        # Full steps overshoot where the loss is flat; a step of a few logits is always safe.
        coefficients = coefficients + step * min(1.0, 3.0 / largest if largest else 1.0)
        if np.abs(coefficients).max() > _MAX_LOGIT:
            return None
        if largest < _CONVERGED:
            return coefficients
    return None


def _derivatives(
    coefficients: Array, features: Array, weights: Array, calibration: Calibration | None
) -> tuple[Array, Array]:
    predicted = _sigmoid(coefficients @ features)
    gradient = features @ (weights * predicted)
    curvature = (features * (weights * predicted * (1 - predicted))) @ features.T
    if calibration is not None:
        rows = calibration.features.T
        expected = _sigmoid(coefficients[:2] @ rows)
        gradient[:2] += calibration.weight * (rows @ expected)
        curvature[:2, :2] += (rows * (calibration.weight * expected * (1 - expected))) @ rows.T
    return gradient, curvature


def _sigmoid(logits: Array) -> Array:
    probabilities: Array = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    return probabilities
