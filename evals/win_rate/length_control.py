"""The win rate that would be if both sides wrote equally much: AlpacaEval 2's regression.

(Y. Dubois et al., Length-Controlled AlpacaEval, arXiv 2404.04475.) The score y of a prompt is
fitted by a logistic regression without intercept on

    tanh((len_baseline - len_policy) / std),  the prompt's difficulty,  1

with std over the prompts (ddof 1). The length-controlled rate is the mean prediction with the
length term at 0; where all lengths are equal it is the win rate. Fitted without a penalty, and with
Firth's where that has no optimum, on the prompts or on redrawn ones. Lengths are in characters.
"""

from typing import Any

import numpy as np

from evals.statistics.intervals import MIN_EVENTS, Z95, wilson, wilson_effective
from evals.statistics.means import mean, standard_error
from evals.win_rate.lengths import Array, LengthSample, length_overlap
from evals.win_rate.logistic import Calibration, Estimator, firth, plain, sigmoid
from schemas.results.win_rates import LengthControlled

DRAWS = 400
MIN_PROMPTS = 20
"""Three coefficients fitted to fewer prompts say nothing."""

_TOGETHER = 2**18
"""Numbers that are worked on at once: redrawn sets times their rows."""

MIN_FITTED = 0.95
"""Share of the redrawn sets that must have a fit for their spread to mean something."""


def length_controlled(
    sample: LengthSample,
    calibration: Calibration | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> LengthControlled:
    """The length-controlled win rate; its error is the spread of refits on redrawn prompts.

    Unlike the spread of the predictions, which is several times too small, that holds what the
    coefficients do not know. The interval is the normal one of the rate's logit, whose error, of
    each side its own, are quantiles of the refits' logits: it stays inside (0, 1).

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
    return LengthControlled(
        **_estimate(sample, calibration, draws, seed),
        n=sample.n,
        overlap=length_overlap(sample) if sample.n else None,
        uses_difficulty=sample.difficulty is not None,
        uses_calibration=calibration is not None,
        draws=draws,
    )


def _estimate(
    sample: LengthSample, calibration: Calibration | None, draws: int, seed: int
) -> dict[str, Any]:
    """Rate, error, interval and estimator, or why there is none."""
    if reason := _unfit(sample):
        return {"reason": reason}
    if not sample.shortfall.any():
        scores = sample.scores.tolist()
        error = standard_error(scores)
        low, high = wilson_effective(mean(scores), np.nan if error is None else error, sample.n)
        return _found(mean(scores), error, low, high)
    weightings = np.vstack([np.ones(sample.n), _redraws(sample.n, draws, seed)])
    rates = _rates(sample, calibration, weightings, plain)
    penalised = not np.isfinite(rates).all()
    if penalised:  # one estimator for the rate and for all redrawn ones
        rates = _rates(sample, calibration, weightings, firth)
    rate, redrawn = float(rates[0]), rates[1:][np.isfinite(rates[1:])]
    if not np.isfinite(rate) or len(redrawn) < MIN_FITTED * draws:
        return {"reason": "the regression has no optimum, or none on too many redrawn prompt sets"}
    error = float(redrawn.std(ddof=1))
    low, high = _interval(rate, redrawn, sample)
    return _found(rate, error, low, high) | {"penalised": penalised}


def _interval(rate: float, redrawn: Array, sample: LengthSample) -> tuple[float, float]:
    """Of a rate by the rates of redrawn prompts.

    With few wins or losses redrawing shows too little of what there could be: the interval then
    holds Wilson's over the prompts too.
    """
    low, high = _logit_interval(rate, redrawn)
    won = float(sample.scores.sum())
    if min(won, sample.n - won) >= MIN_EVENTS:
        return low, high
    least, most = wilson(rate, sample.n)
    return min(low, least), max(high, most)


def _logit_interval(rate: float, redrawn: Array) -> tuple[float, float]:
    """1.96 errors of the logit to either side, each side with its own: both are far from alike."""
    middle = _logit(np.array([rate]))[0]
    least, most = np.quantile(_logit(redrawn), _ONE_ERROR)
    ends = middle + Z95 * np.array([min(0.0, least - middle), max(0.0, most - middle)])
    low, high = sigmoid(ends)
    return float(low), float(high)


def _logit(rates: Array) -> Array:
    inside = np.clip(rates, _NEVER, 1 - _NEVER)
    logits: Array = np.log(inside) - np.log1p(-inside)
    return logits


_NEVER = 1e-9
_ONE_ERROR = (0.15866, 0.84134)
"""Quantiles one error away: redrawn sets that lengths all but separate are not to blow it up."""


def _found(rate: float, error: float | None, low: float, high: float) -> dict[str, Any]:
    return {"win_rate": rate, "standard_error": error, "ci_low": low, "ci_high": high}


def _unfit(sample: LengthSample) -> str | None:
    if sample.n < MIN_PROMPTS:
        return f"{sample.n} prompts are too few for the regression; it takes {MIN_PROMPTS}"
    if np.ptp(sample.shortfall) == 0 and sample.shortfall.any():
        return "the lengths differ by the same on every prompt, so their effect cannot be told"
    return None


def _redraws(n: int, draws: int, seed: int) -> Array:
    """How often each prompt is in a bootstrap sample, (draws, n)."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)


def _rates(
    sample: LengthSample,
    calibration: Calibration | None,
    weightings: Array,
    fit: Estimator,
) -> Array:
    """The length-controlled rate of each weighting of the prompts, (d, n) -> (d,).

    NaN where a regression has no finite optimum.
    """
    numbers = max(sample.n, 0 if calibration is None else len(calibration.features))
    together = max(1, _TOGETHER // numbers)
    blocks = range(0, len(weightings), together)
    return np.concatenate(
        [_block(sample, calibration, weightings[i : i + together], fit) for i in blocks]
    )


def _block(
    sample: LengthSample, calibration: Calibration | None, weights: Array, fit: Estimator
) -> Array:
    bias = np.ones(sample.n)
    fixed = np.stack([bias] if sample.difficulty is None else [sample.difficulty, bias])
    rows = np.broadcast_to(fixed, (len(weights), *fixed.shape))
    features = np.concatenate([_length_feature(sample, weights)[:, None], rows], axis=1)
    coefficients = fit(features, sample.scores, weights, calibration)
    predicted = sigmoid(coefficients[:, 1:] @ fixed)
    rates: Array = (weights * predicted).sum(axis=1) / weights.sum(axis=1)
    return rates


def _length_feature(sample: LengthSample, weights: Array) -> Array:
    """tanh((len_baseline - len_policy) / std), std with ddof 1 of the weighted prompts: (d, n)."""
    size = weights.sum(axis=1, keepdims=True)
    center = (weights @ sample.shortfall)[:, None] / size
    squares = (weights * (sample.shortfall - center) ** 2).sum(axis=1, keepdims=True)
    std = np.sqrt(squares / np.maximum(size - 1, 1))
    feature: Array = np.tanh(sample.shortfall / np.where(std > 0, std, np.inf))
    return feature
