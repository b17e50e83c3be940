"""What a number of prompts can show: the smallest detectable effect, and prompts to settle."""

import math

from evals.statistics.means import NO_SPREAD
from evals.statistics.student import Z975

Z80 = 0.8416212335729143
"""Two-sided 5% tests with 80% power: z(0.975) + z(0.8)."""

_ROUNDS = 100


def design_effect(rate: float, error: float | None, n: int) -> float:
    """How much wider scores spread than hard wins and losses at that rate would; 1 for those.

    n SE² / (r (1 - r)); 1, which is assumed of binary verdicts, where the scores have no spread.
    """
    of_binary = rate * (1 - rate)
    if not error or error < NO_SPREAD or of_binary <= 0:
        return 1.0
    return n * error**2 / of_binary


def detectable_effect(rate: float, error: float | None, n: int) -> float | None:
    """Smallest distance from 0.5 that n prompts would show with 80% power at the 5% level.

    The test is that of Wilson's interval against 0.5, whose error is the one at 0.5; the effect has
    its own: δ = z(.975) sqrt(.25 D / n) + z(.8) sqrt(D (.25 - δ²) / n), D the design effect. None
    for n = 0.
    """
    if not n:
        return None
    spread = design_effect(rate, error, n) / n
    delta = 0.0
    for _ in range(_ROUNDS):
        at_effect = math.sqrt(spread * max(0.0, 0.25 - delta**2))
        delta = min(0.5, Z975 * math.sqrt(0.25 * spread) + Z80 * at_effect)
    return delta


def prompts_to_settle(rate: float | None, error: float | None, n: int) -> int | None:
    """Prompts at which the distance seen would be the smallest detectable one; None at 0.5."""
    if rate is None or rate == 0.5 or not n:
        return None
    delta, spread = abs(rate - 0.5), design_effect(rate, error, n)
    root = Z975 * math.sqrt(0.25 * spread) + Z80 * math.sqrt(spread * max(0.0, 0.25 - delta**2))
    return math.ceil((root / delta) ** 2)
