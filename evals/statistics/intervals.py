"""Confidence intervals of a rate that stay inside [0, 1] and hold their coverage near its ends."""

import math

from evals.statistics.means import NO_SPREAD

Z95 = 1.96
MIN_EVENTS = 5.0
"""Below this many wins or losses a standard error says nothing: plain Wilson is used."""


def wilson(rate: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a rate observed over n units.

    (E. B. Wilson, JASA 22, 1927): the rates p with |rate - p| <= z sqrt(p (1 - p) / n), that is
    (rate + z²/2n ± z sqrt(rate (1 - rate) / n + z²/4n²)) / (1 + z²/n).

    Args:
        rate: successes / n, in [0, 1]; not a count.
        n: number of units; a fraction where it is an effective number; 0 knows nothing.
        z: two-sided normal quantile, 1.96 for 95 percent.

    Returns:
        (low, high), both in [0, 1], low <= rate <= high.

    Raises:
        ValueError: the rate is outside [0, 1] or n is negative.
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"rate is {rate}: it must be in [0, 1]; divide a count by n first")
    if n < 0:
        raise ValueError(f"n is {n}: it cannot be negative")
    if n == 0:
        return 0.0, 1.0
    shrink = 1 + z * z / n
    center = (rate + z * z / (2 * n)) / shrink
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / shrink
    # The ends meet 0, 1 and the rate exactly in real numbers; rounding must not overstep them.
    return min(rate, max(0.0, center - half)), max(rate, min(1.0, center + half))


def wilson_effective(
    rate: float, standard_error: float, n: float, z: float = Z95
) -> tuple[float, float]:
    """Wilson's interval of a mean of scores in [0, 1] whose standard error is known.

    The effective number of units is rate (1 - rate) / standard_error²: more than n for soft scores,
    which vary less than 0/1 outcomes, fewer than n where units come in clusters. Plain Wilson over
    n where that number cannot be trusted: fewer than `MIN_EVENTS` wins or losses, or a standard
    error that is 0 or not a number (every unit scored the same).

    Args:
        rate: mean score, in [0, 1].
        standard_error: of the mean, clustered where the units are.
        n: number of independent units (prompts).
        z: two-sided normal quantile.

    Returns:
        (low, high), both in [0, 1].
    """
    # Exactly that many must not be fewer by rounding, or A over B and B over A part ways.
    few = min(rate, 1 - rate) * n < MIN_EVENTS * (1 - 1e-12)
    if few or not math.isfinite(standard_error) or standard_error < NO_SPREAD:
        return wilson(rate, n, z)
    return wilson(rate, rate * (1 - rate) / standard_error**2, z)
