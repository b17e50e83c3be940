"""Means of benchmark scores with honest intervals, and differences of two models, paired."""

import math
from collections.abc import Mapping

from evals.statistics.intervals import Z95, wilson_effective
from evals.statistics.means import clustered_standard_error, mean, standard_error
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

    Differences of rates lie in [-1, 1]: they are moved to [0, 1] and back for Wilson's interval,
    which stays inside and does not vanish where all samples differ by the same amount.
    """
    common = sorted(first.keys() & second.keys())
    if not common:
        return None
    halves = {key: (first[key] - second[key] + 1) / 2 for key in common}
    found = estimate_mean(halves, clusters)
    error = found.standard_error
    return Estimate(
        value=mean([first[key] - second[key] for key in common]),
        standard_error=None if error is None else 2 * error,
        ci_low=None if found.ci_low is None else 2 * found.ci_low - 1,
        ci_high=None if found.ci_high is None else 2 * found.ci_high - 1,
        n=len(common),
    )


def _error(values: list[float], owners: list[str]) -> float | None:
    if len(set(owners)) == len(owners):
        return standard_error(values)
    error = clustered_standard_error(values, owners)
    return None if math.isnan(error) else error


def _or_nan(error: float | None) -> float:
    return math.nan if error is None else error
