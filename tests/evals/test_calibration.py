import pytest

from evals.judge_card.calibration import (
    brier_score,
    confidence,
    expected_calibration_error,
    reliability,
)
from schemas.labels import LabelProbabilities, Preference

A, B, TIE = Preference.A, Preference.B, Preference.TIE

SURE_A = LabelProbabilities(p_a=1.0, p_b=0.0, p_tie=0.0)
LIKELY_B = LabelProbabilities(p_a=0.25, p_b=0.65, p_tie=0.1)


def test_brier_by_hand() -> None:
    # Right and certain: 0. Wrong and certain: 1 + 1.
    # B at 0.65 where A is true: 0.75² + 0.65² + 0.1².
    assert brier_score([A], [SURE_A]) == 0
    assert brier_score([B], [SURE_A]) == 2
    assert brier_score([A, A], [SURE_A, LIKELY_B]) == pytest.approx((0.5625 + 0.4225 + 0.01) / 2)


def test_reliability_by_hand() -> None:
    table = reliability([A, B, B, A], [SURE_A, SURE_A, LIKELY_B, LIKELY_B])
    assert len(table) == 10
    filled = {row.low: (row.n, row.mean_confidence, row.accuracy.value) for row in table if row.n}
    assert filled == {0.6: (2, pytest.approx(0.65), 0.5), 0.9: (2, 1.0, 0.5)}
    # Half the answers are off by 0.15, half by 0.5.
    assert expected_calibration_error(table) == pytest.approx(0.325)


def test_empty_bins_say_nothing() -> None:
    table = reliability([], [])
    assert all(row.n == 0 and row.mean_confidence is None for row in table)
    assert expected_calibration_error(table) is None
    assert brier_score([], []) is None


def test_confidence_is_that_of_the_label_taken() -> None:
    assert confidence(LIKELY_B) == 0.65
    # Equal sides come down to a tie, whose own probability is what the judge is sure of.
    assert confidence(LabelProbabilities(p_a=0.4, p_b=0.4, p_tie=0.2)) == 0.2
