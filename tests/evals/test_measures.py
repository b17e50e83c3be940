"""Means with intervals, and paired differences."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.statistics.estimates import estimate_mean, paired_difference
from evals.statistics.intervals import wilson, wilson_effective

SCORES = st.dictionaries(st.integers(0, 30).map(str), st.integers(0, 4).map(lambda k: k / 4))


def test_a_rate_has_wilsons_interval() -> None:
    scores = {str(i): float(i < 30) for i in range(40)}
    found = estimate_mean(scores)
    error = math.sqrt(0.75 * 0.25 / 39)
    assert (found.value, found.n) == (0.75, 40)
    assert found.standard_error == pytest.approx(error)
    assert (found.ci_low, found.ci_high) == pytest.approx(wilson_effective(0.75, error, 40))


def test_all_alike_is_not_certain() -> None:
    found = estimate_mean({str(i): 1.0 for i in range(20)})
    assert (found.ci_low, found.ci_high) == wilson(1.0, 20)


def test_scores_beyond_rates_have_the_normal_interval() -> None:
    found = estimate_mean({"a": 1.0, "b": 5.0})
    assert found.value == 3.0
    assert found.standard_error == 2.0
    assert (found.ci_low, found.ci_high) == pytest.approx((3 - 1.96 * 2, 3 + 1.96 * 2))
    assert estimate_mean({"a": 7.0}).ci_low is None


def test_nothing_has_no_mean() -> None:
    with pytest.raises(ValueError, match="no scores"):
        estimate_mean({})
    assert paired_difference({"a": 1.0}, {"b": 1.0}) is None


def test_difference_is_over_the_samples_both_have() -> None:
    found = paired_difference({"a": 1.0, "b": 0.5, "x": 0.0}, {"b": 0.25, "a": 0.0, "y": 1.0})
    assert found is not None
    assert (found.n, found.value) == (2, 0.625)
    assert found.standard_error == pytest.approx(abs(1.0 - 0.25) / 2)


def test_pairing_removes_what_the_samples_share() -> None:
    first = {str(i): float(i % 2) for i in range(100)}
    second = first | {"0": 1.0}
    paired = paired_difference(second, first)
    assert paired is not None
    assert paired.standard_error is not None
    alone = estimate_mean(first).standard_error
    assert alone is not None
    assert paired.standard_error < alone / 4


@given(SCORES, SCORES)
def test_exchanging_the_models_turns_the_sign(
    first: dict[str, float], second: dict[str, float]
) -> None:
    one, other = paired_difference(first, second), paired_difference(second, first)
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert one.value is not None
        assert other.value is not None
        assert one.value == pytest.approx(-other.value)
        assert one.ci_low is not None
        assert one.ci_high is not None
        assert other.ci_high is not None
        assert one.ci_low == pytest.approx(-other.ci_high)
        assert -1 <= one.ci_low <= one.value + 1e-12
        assert one.value - 1e-12 <= one.ci_high <= 1
