"""What a judge's known errors could do to a rate: Rogan and Gladen's correction, a diagnostic."""

import math

from evals.statistics.means import NO_SPREAD
from evals.statistics.student import Z975
from schemas.results.base import Estimate

WORTH = 0.05
"""A judge that is right this little more often than a coin cannot be corrected for."""


def corrected_rate(
    rate: float, error: float, right: float, n_wins: float, n_losses: float, n: int
) -> Estimate | None:
    """The rate of which a judge that is right so often would make the rate seen.

    With q the share of true wins, and of true losses, that the judge sees as such, which are one
    where the sides of its labels are arbitrary:

        θ = (p + q - 1) / (2q - 1),
        Var θ = [Var p + (1 - θ)² q (1 - q) / m₀ + θ² q (1 - q) / m₁] / (2q - 1)²

    (W. Rogan and B. Gladen 1978; C. Lee et al., arXiv 2511.21140.) It takes the errors for the same
    on these completions as on the labelled ones, which nobody knows: a diagnostic, no estimate.

    Args:
        rate: p, by the judge.
        error: its standard error.
        right: q, in [0, 1].
        n_wins: m₁, labels behind q that are wins.
        n_losses: m₀, those that are losses.
        n: prompts.

    Returns:
        None where the judge is not better than a coin by `WORTH`, or nothing was labelled.
    """
    gain = 2 * right - 1
    if gain < 2 * WORTH or n_wins < 1 or n_losses < 1:
        return None
    raw = (rate + right - 1) / gain
    value = min(1.0, max(0.0, raw))
    of_judge = right * (1 - right) * ((1 - value) ** 2 / n_losses + value**2 / n_wins)
    spread = math.sqrt(error**2 + of_judge) / gain
    if spread < NO_SPREAD:
        return Estimate(value=value, standard_error=0.0, ci_low=value, ci_high=value, n=n)
    low, high = raw - Z975 * spread, raw + Z975 * spread
    return Estimate(
        value=value,
        standard_error=spread,
        ci_low=min(value, max(0.0, low)),
        ci_high=max(value, min(1.0, high)),
        n=n,
    )
