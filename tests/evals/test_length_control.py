"""Length control: known effects are found, degenerate data have reasons, errors are honest."""

import json

import numpy as np
import pytest

from evals.win_rate.length_control import length_controlled
from evals.win_rate.lengths import Array, LengthSample, length_matched, length_overlap
from evals.win_rate.logistic import Calibration, firth, sigmoid


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
    found = length_controlled(sample, draws=100)
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
    ],
)
def test_what_cannot_be_fitted_has_a_reason(scores: Array, policy: Array, words: str) -> None:
    found = length_controlled(LengthSample(scores, policy, np.full(len(scores), 10.0)))
    assert found.win_rate is None
    assert found.ci_low is None
    assert found.reason is not None
    assert words in found.reason
    json.dumps(found.to_json(), allow_nan=False)


def strong(n: int = 200, lost: int = 1, seed: int = 0) -> LengthSample:
    """A policy that loses only where it writes least."""
    s = simulated(n, effect=0.0, bias=0.0, seed=seed)
    scores = np.ones(n)
    scores[np.argsort(s.policy_lengths - s.baseline_lengths)[:lost]] = 0
    return LengthSample(scores, s.policy_lengths, s.baseline_lengths)


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_a_policy_that_hardly_loses_has_a_rate(lost: int) -> None:
    """By Firth's penalty: the plain fit runs away, in the sample or on redrawn prompts."""
    found = length_controlled(strong(lost=lost), draws=60)
    assert found.penalised
    assert found.reason is None
    assert found.win_rate is not None
    assert found.ci_low is not None
    assert found.ci_high is not None
    assert 0.5 < found.ci_low < found.win_rate < found.ci_high <= 1
    mirrored = strong(lost=lost)
    other = length_controlled(
        LengthSample(1 - mirrored.scores, mirrored.baseline_lengths, mirrored.policy_lengths),
        draws=60,
    )
    assert other.win_rate == pytest.approx(1 - found.win_rate, abs=1e-6)


def test_firth_s_fit_of_a_rate_alone_by_hand() -> None:
    """One intercept, all 10 won: the penalty is half a win and half a loss, 10.5 / 11."""
    alone = firth(np.ones((1, 1, 10)), np.ones(10), np.ones((1, 10)), None)[0]
    assert np.isfinite(alone).all()
    assert sigmoid(alone)[0] == pytest.approx(10.5 / 11, abs=1e-5)
    # Not all won: the intercept is fitted again, and the mean prediction is the mean score.
    scores = np.arange(10) < 9
    some = firth(np.ones((1, 1, 10)), scores.astype(float), np.ones((1, 10)), None)[0]
    assert np.isfinite(some).all()
    assert sigmoid(some)[0] == pytest.approx(0.9)


def test_firth_s_slope_maximises_the_penalised_likelihood() -> None:
    """Found again by trying coefficients around it, with weights and calibration rows."""
    rng = np.random.default_rng(5)
    features = np.stack([rng.uniform(-1, 1, 30), rng.normal(size=30), np.ones(30)])
    scores = (rng.random(30) < 0.8).astype(float)
    weights = rng.integers(0, 3, 30).astype(float)
    rows = rng.normal(size=(40, 2))
    calibration = Calibration(rows, 0.1 * (rng.random(40) @ rows), 0.1)
    found = firth(features[None], scores, weights[None], calibration)[0]
    assert np.isfinite(found).all()

    def likelihood(c: Array) -> float:
        p, q = sigmoid(c @ features), sigmoid(rows @ c[:2])
        information = (features * weights * p * (1 - p)) @ features.T
        information[:2, :2] += 0.1 * (rows.T * (q * (1 - q))) @ rows
        own = weights @ (scores * np.log(p) + (1 - scores) * np.log(1 - p))
        further = calibration.label_sums @ c[:2] + 0.1 * np.log(1 - q).sum()
        return float(own + further + np.linalg.slogdet(information)[1] / 2)

    intercepts = found[2] + np.linspace(-1, 1, 2001)
    best = max(intercepts, key=lambda b: likelihood(np.array([*found[:2], b])))
    here = likelihood(np.array([*found[:2], best]))
    for moved in (np.array([0.02, 0]), np.array([0, 0.02])):
        for sign in (1, -1):
            assert likelihood(np.array([*(found[:2] + sign * moved), best])) < here
    predicted = sigmoid(found @ features)
    assert weights @ predicted == pytest.approx(weights @ scores)


def test_a_plain_fit_is_kept_where_it_covers_all_redrawn_prompts() -> None:
    found = length_controlled(simulated(300, effect=-1.0, bias=0.2), draws=60)
    assert not found.penalised
    assert found.win_rate is not None
    assert found.ci_low is not None
    assert found.ci_high is not None
    assert found.standard_error is not None
    width = found.ci_high - found.ci_low
    assert width == pytest.approx(2 * 1.96 * found.standard_error, rel=0.3)


def test_the_same_data_give_the_same_bits() -> None:
    s = simulated(100, effect=-1.0, bias=0.2)
    assert length_controlled(s) == length_controlled(s)
    assert length_controlled(s, seed=1).standard_error != length_controlled(s).standard_error


def test_the_bootstrap_error_is_the_spread_over_new_data() -> None:
    samples = [simulated(300, effect=-2.0, bias=0.3, seed=k) for k in range(60)]
    found = [length_controlled(sample, draws=60) for sample in samples]
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
