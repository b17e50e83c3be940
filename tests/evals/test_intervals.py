import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.statistics.intervals import wilson, wilson_effective

rates = st.floats(0, 1)
counts = st.floats(1, 1e6)


def test_wilson_by_hand() -> None:
    # z = 2, n = 4, rate = 1/2: center 1/2, half = 2 sqrt(1/16 + 1/16) / 2 = sqrt(1/8).
    low, high = wilson(0.5, 4, z=2)
    assert low == pytest.approx(0.5 - math.sqrt(1 / 8))
    assert high == pytest.approx(0.5 + math.sqrt(1 / 8))


def test_wilson_published_example() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263, and 15 of 148, and 0 of 20.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@given(rates, counts)
def test_wilson_holds_the_rate_and_mirrors(rate: float, n: float) -> None:
    low, high = wilson(rate, n)
    assert 0 <= low <= rate <= high <= 1
    mirrored = wilson(1 - rate, n)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-9)


@given(rates, counts)
def test_binary_scores_have_the_plain_interval(rate: float, n: float) -> None:
    standard_error = math.sqrt(rate * (1 - rate) / n)
    assert wilson_effective(rate, standard_error, n) == pytest.approx(wilson(rate, n), abs=1e-9)


def test_soft_scores_narrow_and_clusters_widen() -> None:
    plain = math.sqrt(0.25 / 100)
    low, high = wilson(0.5, 100)
    soft = wilson_effective(0.5, plain / 2, 100)
    clustered = wilson_effective(0.5, plain * 2, 100)
    assert clustered[0] < low < soft[0]
    assert soft[1] < high < clustered[1]
    assert soft == pytest.approx(wilson(0.5, 400))
    assert clustered == pytest.approx(wilson(0.5, 25))


@pytest.mark.parametrize("standard_error", [0.0, math.nan, math.inf])
def test_falls_back_to_plain_wilson_without_a_standard_error(standard_error: float) -> None:
    assert wilson_effective(0.5, standard_error, 50) == wilson(0.5, 50)


@pytest.mark.parametrize("rate", [0.04, 0.96])
def test_falls_back_to_plain_wilson_below_five_events(rate: float) -> None:
    assert wilson_effective(rate, 0.001, 100) == wilson(rate, 100)


def test_nothing_is_known_of_nothing() -> None:
    assert wilson(0.0, 0) == (0.0, 1.0)
    assert wilson_effective(0.5, math.nan, 0) == (0.0, 1.0)


def test_a_count_is_refused() -> None:
    with pytest.raises(ValueError, match="divide a count by n"):
        wilson(81, 263)
