"""Means of scores and their standard errors, of independent units and of clusters."""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

NO_SPREAD = 1e-12
"""A standard error below this is 0 but for rounding: all units scored the same."""


def mean(values: Sequence[float]) -> float:
    """Mean of a non-empty sequence; its sum is correctly rounded, whatever the order."""
    return math.fsum(values) / len(values)


def standard_error(scores: Sequence[float]) -> float | None:
    """Standard error of the mean of one score per prompt: std(ddof=1) / sqrt(n).

    With equal weights and one score per cluster this is the cluster-robust error with its C/(C-1)
    correction (E. Miller, arXiv 2411.00640, appendix A). None below two prompts.
    """
    n = len(scores)
    if n < 2:
        return None
    center = mean(scores)
    error = math.sqrt(math.fsum((s - center) ** 2 for s in scores) / (n - 1) / n)
    return error if error > NO_SPREAD else 0.0


def clustered_standard_error(scores: Sequence[float], clusters: Sequence[Hashable]) -> float:
    """Cluster-robust standard error of a mean; NaN below two clusters.

    sqrt(C / (C - 1) * sum_c (sum_{i in c} (s_i - mean))²) / n, with C clusters (E. Miller 2024,
    arXiv:2411.00640, appendix A, with the finite-cluster correction).
    """
    n = len(scores)
    center = mean(scores)
    deviations: dict[Hashable, list[float]] = defaultdict(list)
    for score, cluster in zip(scores, clusters, strict=True):
        deviations[cluster].append(score - center)
    count = len(deviations)
    if count < 2:
        return math.nan
    squares = math.fsum(math.fsum(d) ** 2 for d in deviations.values())
    error = math.sqrt(count / (count - 1) * squares) / n
    return error if error > NO_SPREAD else 0.0
