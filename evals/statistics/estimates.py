"""Means of benchmark scores with honest intervals, and differences of two models, paired."""

import math
from collections.abc import Hashable, Mapping, Sequence

from evals.statistics.intervals import Z95, wilson_effective
from evals.statistics.means import (
    NO_SPREAD,
    clustered_standard_error,
    mean,
    standard_error,
)
from schemas.results.base import Estimate


def estimate_mean(
    scores: Mapping[str, float], clusters: Mapping[str, str] | None = None
) -> Estimate:
    """Mean of one score per sample (its mean over epochs).

    Scores in [0, 1] get Wilson's interval with effective n, others the normal one.

    Args:
        scores: by sample id.
        clusters: sample id -> what it belongs to; a sample without one is for itself.

    Raises:
        ValueError: no scores.
    """
    if not scores:
        raise ValueError("the mean of no scores is not a number")
    values = [*scores.values()]
    owners = [(clusters or {}).get(key, key) for key in scores]
    center, error = mean(values), _error(values, owners)
    low: float | None
    high: float | None
    if all(0 <= value <= 1 for value in values):
        low, high = wilson_effective(center, _or_nan(error), len(set(owners)))
    elif error is None:
        low = high = None
    else:
        low, high = center - Z95 * error, center + Z95 * error
    return Estimate(value=center, standard_error=error, ci_low=low, ci_high=high, n=len(values))


def paired_difference(
    first: Mapping[str, float],
    second: Mapping[str, float],
    clusters: Mapping[str, str] | None = None,
) -> Estimate | None:
    """Mean of first - second over the samples that both have, by sample id; None without any.

    Differences of rates get the interval of `mean_difference`, others the normal one.
    """
    common = sorted(first.keys() & second.keys())
    if not common:
        return None
    values = [first[key] - second[key] for key in common]
    owners = [(clusters or {}).get(key, key) for key in common]
    if all(0 <= side[key] <= 1 for side in (first, second) for key in common):
        return mean_difference(values, owners)
    error = _error(values, owners)
    ends = (mean(values) - Z95 * error, mean(values) + Z95 * error) if error else (None, None)
    return Estimate(
        value=mean(values), standard_error=error, ci_low=ends[0], ci_high=ends[1], n=len(common)
    )


def mean_difference(values: Sequence[float], owners: Sequence[Hashable]) -> Estimate:
    """Mean of differences of rates in [-1, 1]: of one unit, rated in two ways.

    Bonett and Price's interval (Statistics in Medicine 31, 2012): two pseudo-pairs, one for each
    side, are added. They are as large as the differences that are there (root mean square of those
    that are not 0), so that they do not swamp narrow soft scores; 1, as for hard scores, where
    nothing differs.

    Args:
        values: one difference per unit, (n,), n at least 1.
        owners: what each unit belongs to, (n,).
    """
    low, high = _bonett_price(values, owners)
    error = _error(values, owners)
    return Estimate(
        value=mean(values), standard_error=error, ci_low=low, ci_high=high, n=len(values)
    )


def _bonett_price(values: Sequence[float], owners: Sequence[Hashable]) -> tuple[float, float]:
    differing = [value for value in values if abs(value) > NO_SPREAD]
    size = math.sqrt(mean([v * v for v in differing])) if differing else 1.0
    more = [*values, size, -size]
    center = math.fsum(more) / len(more)
    error = clustered_standard_error(more, [*owners, "+", "-"])
    return max(-1.0, center - Z95 * error), min(1.0, center + Z95 * error)


def _error(values: Sequence[float], owners: Sequence[Hashable]) -> float | None:
    if len(set(owners)) == len(owners):
        return standard_error(values)
    error = clustered_standard_error(values, owners)
    return None if math.isnan(error) else error


def _or_nan(error: float | None) -> float:
    return math.nan if error is None else error
