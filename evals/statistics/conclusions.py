"""What an interval says: better, worse, or cannot tell. Nothing else decides it."""

from schemas.results.benchmarks import NoWorse
from schemas.results.win_rates import Conclusion

LEVEL = 0.05


def conclusion(low: float | None, high: float | None, even: float = 0.5) -> Conclusion:
    """What the interval of a measure says against `even`; without one, nothing can be told."""
    if low is None or high is None:
        return "cannot tell"
    return "better" if low > even else "worse" if high < even else "cannot tell"


def tested(difference: float | None, p_value: float) -> Conclusion:
    """What a two-sided test of no difference says, at the 5% level."""
    if not difference or p_value > LEVEL:
        return "cannot tell"
    return "better" if difference > 0 else "worse"


def no_worse(low: float | None, high: float | None, margin: float) -> NoWorse:
    """What the 95% interval of a difference says of "no worse by more than `margin`".

    The test of non-inferiority at the 2.5% level; that a difference is not significant says
    nothing.
    """
    if low is None or high is None:
        return "cannot tell"
    if low > 0:
        return "better"
    return "no worse" if low > -margin else "worse" if high < -margin else "cannot tell"
