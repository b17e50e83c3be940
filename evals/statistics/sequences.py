"""An interval that stays right however often one looks, and whenever one stops.

(I. Waudby-Smith and A. Ramdas, Estimating means of bounded random variables by betting, JRSS B
2023, arXiv 2010.09686: the hedged capital of a grid of gamblers.) Some bet
before every score that the mean is above m, others that it is below. If m is the mean, nobody's
fortune is expected to grow, so that all of them together reach 1/α at any time with probability α
at most (Ville). What m would have made them that rich is no mean.
"""

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LEVEL = 0.05
RICH = math.log(2 / LEVEL)
"""Who bets on more and who bets on less have half of the stakes each."""
SHARES: Array = np.geomspace(0.03, 0.9, 10)
"""What the gamblers stake of their fortunes: small shares find small differences, late."""

_HALVINGS = 40


def always_valid(scores: Array) -> tuple[float, float]:
    """The interval of the mean of scores in [0, 1], (n,); their order does not matter.

    With probability 0.95 the mean lies in the intervals of every n at once, so that it does
    whenever one stops, for whatever reason. The whole of [0, 1] without scores.
    """
    return _low(scores), 1 - _low(1 - scores)


def settled(lost: Array, won: Array, even: float = 0.5) -> bool:
    """Whether the interval lies on one side of `even`.

    Args:
        lost: scores, (n,), with 0 where there is none.
        won: the same with 1 where there is none.
        even: in (0, 1).
    """
    if not len(lost):
        return False
    more, less = log_fortune(lost, even)[-1], log_fortune(1 - won, 1 - even)[-1]
    return bool(max(more, less) > RICH)


def log_fortune(scores: Array, mean: float) -> Array:
    """Logarithm of what betting on a mean above `mean` has made of 1 after each score.

    Args:
        scores: in [0, 1], (..., n).
        mean: in (0, 1].

    Returns:
        (..., n).
    """
    odds = scores / mean - 1
    fortunes = np.stack([np.cumsum(np.log1p(share * odds), axis=-1) for share in SHARES])
    together: Array = np.logaddexp.reduce(fortunes, axis=0) - math.log(len(SHARES))
    return together


def _low(scores: Array) -> float:
    """The largest mean that those who bet on more have been proved right about.

    Their fortune falls as the mean rises, so that halving finds where it is 2/α.
    """
    if not scores.any():
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if log_fortune(scores, middle)[-1] >= RICH:
            low = middle
        else:
            high = middle
    return low
