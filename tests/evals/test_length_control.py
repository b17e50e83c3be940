"""Length control: known effects are found, degenerate data have reasons, errors are honest."""

import json

import numpy as np
import pytest

from evals.win_rate.length_control import Calibration, length_controlled
from evals.win_rate.lengths import Array, LengthSample, length_matched, length_overlap


def sigmoid(x: Array) -> Array:
    found: Array = 1 / (1 + np.exp(-x))
    return found


def simulated(n: int, *, effect: float, bias: float, seed: int = 0) -> LengthSample:
    """A judge whose logit is effect * tanh(shortfall / std) + bias; the policy writes more."""
    rng = np.random.default_rng(seed)
    baseline = rng.integers(200, 2000, size=n).astype(float)
    policy = baseline * rng.uniform(0.8, 1.8, size=n)
    shortfall = baseline - policy
    logits = effect * np.tanh(shortfall / shortfall.std(ddof=1)) + bias
    return LengthSample((rng.uniform(size=n) < sigmoid(logits)).astype(float), policy, baseline)


def test_the_length_effect_is_taken_out() -> None:
    sample = simulated(4000, effect=-3.0, bias=-0.5)
    found = length_controlled(sample)
    assert sample.scores.mean() > 0.6  # it wins by length alone
    assert found.win_rate == pytest.approx(1 / (1 + np.exp(0.5)), abs=0.03)
    assert found.win_rate is not None
    assert found.ci_low is not None
    assert found.ci_high is not None
    assert found.ci_low < found.win_rate < found.ci_high < 0.5


def test_soft_labels_on_the_curve_are_fitted_exactly() -> None:
    rng = np.random.default_rng(3)
    baseline, policy = rng.uniform(100, 900, size=(2, 60))
    difficulty = rng.normal(size=60)
    shortfall = baseline - policy
    logits = -1.5 * np.tanh(shortfall / shortfall.std(ddof=1)) + 0.8 * difficulty + 0.3
    found = length_controlled(LengthSample(sigmoid(logits), policy, baseline, difficulty))
    assert found.win_rate == pytest.approx(sigmoid(0.8 * difficulty + 0.3).mean(), abs=1e-9)


def test_exchanging_the_sides_mirrors_the_rate() -> None:
    s = simulated(300, effect=-1.0, bias=0.4)
    one = length_controlled(s)
    other = length_controlled(LengthSample(1 - s.scores, s.baseline_lengths, s.policy_lengths))
    assert one.win_rate is not None
    assert other.win_rate == pytest.approx(1 - one.win_rate)
    assert one.standard_error == pytest.approx(other.standard_error)


def test_calibration_rows_pull_the_length_effect() -> None:
    s = simulated(200, effect=0.0, bias=0.0)
    difficult = LengthSample(s.scores, s.policy_lengths, s.baseline_lengths, np.zeros(200) + 0.01)
    rng = np.random.default_rng(0)
    features = np.stack([rng.uniform(-1, 1, 2000), rng.normal(size=2000)], axis=1)
    labels = sigmoid(features @ np.array([-2.0, 1.0]))
    calibration = Calibration(features, 0.1 * (labels @ features), 0.1)
    pulled = length_controlled(difficult, calibration)
    assert pulled.uses_calibration
    assert pulled.win_rate is not None
    assert pulled.win_rate < 0.45  # as the policy is longer and longer is said to win
    assert not length_controlled(s, calibration).uses_calibration


def test_equal_lengths_leave_the_win_rate() -> None:
    lengths = np.full(50, 100.0)
    tied = length_controlled(LengthSample(np.full(50, 0.5), lengths, lengths))
    assert (tied.win_rate, tied.standard_error, tied.reason) == (0.5, 0.0, None)
    assert tied.overlap is not None
    assert (tied.overlap.share_of_like_length, tied.overlap.mean_tanh) == (1.0, None)


@pytest.mark.parametrize(
    ("scores", "policy", "words"),
    [
        (np.full(5, 0.5), np.arange(5.0), "too few"),
        (np.full(40, 0.5), np.full(40, 7.0), "differ by the same"),
        (np.ones(40), np.arange(40.0), "separable"),
    ],
)
def test_what_cannot_be_fitted_has_a_reason(scores: Array, policy: Array, words: str) -> None:
    found = length_controlled(LengthSample(scores, policy, np.full(len(scores), 10.0)))
    assert found.win_rate is None
    assert found.ci_low is None
    assert found.reason is not None
    assert words in found.reason
    json.dumps(found.to_json(), allow_nan=False)


def test_the_same_data_give_the_same_bits() -> None:
    s = simulated(100, effect=-1.0, bias=0.2)
    assert length_controlled(s) == length_controlled(s)
    assert length_controlled(s, seed=1).standard_error != length_controlled(s).standard_error


def test_the_bootstrap_error_is_the_spread_over_new_data() -> None:
    found = [length_controlled(simulated(300, effect=-2.0, bias=0.3, seed=k)) for k in range(60)]
    rates = [f.win_rate for f in found if f.win_rate is not None]
    errors = [f.standard_error for f in found if f.standard_error is not None]
    assert np.mean(errors) == pytest.approx(np.std(rates, ddof=1), rel=0.25)


def test_length_matched_by_hand() -> None:
    scores = np.array([1.0, 0.0, 1.0, 0.5])
    sample = LengthSample(scores, np.array([80.0, 79, 100, 0]), np.array([100.0, 100, 125, 0]))
    found = length_matched(sample)
    assert found.n == 3
    assert found.win_rate == pytest.approx(2.5 / 3)
    assert length_matched(sample, 0.0).n == 1
    none = length_matched(LengthSample(scores[:1], np.ones(1), 9 * np.ones(1)))
    assert (none.n, none.win_rate, none.ci_low) == (0, None, None)


def test_thin_overlap_is_seen() -> None:
    lengths = np.linspace(100, 199, 100)
    thin = length_overlap(LengthSample(np.ones(100), lengths, lengths * 3))
    assert thin.thin
    assert thin.length_ratio == pytest.approx(1 / 3)
    assert thin.mean_tanh is not None
    assert thin.mean_tanh > 0.9
    assert not length_overlap(LengthSample(np.ones(100), lengths, lengths)).thin
