"""The smallest detectable effect is what it says: there a test finds it four times of five."""

import numpy as np
import pytest

from evals.statistics.conclusions import conclusion
from evals.statistics.intervals import wilson_effective
from evals.statistics.power import detectable_effect, prompts_to_settle
from tests.benchmarks.bench_power import hard_power


def test_at_a_rate_near_one_it_is_not_the_error_seen() -> None:
    error = (0.96 * 0.04 / 99) ** 0.5
    assert detectable_effect(0.96, error, 100) == pytest.approx(0.138, abs=0.002)
    assert (prompts_to_settle(0.96, error, 100) or 0) >= 7
    assert detectable_effect(0.5, None, 0) is None
    assert prompts_to_settle(0.5, 0.05, 100) is None


@pytest.mark.parametrize("n", [60, 100, 150, 200, 300, 400, 600, 805])
def test_power_of_hard_verdicts_at_the_detectable_effect(n: int) -> None:
    """Exactly, by the binomial distribution; steps are coarse where n is small."""
    power = hard_power(n)["power"]
    low, high = (0.77, 0.84) if n < 400 else (0.78, 0.82)
    assert low <= power <= high


@pytest.mark.parametrize("n", [100, 400])
def test_power_of_soft_scores_at_the_detectable_effect(n: int) -> None:
    """Scores drawn at 0.5 + the effect: a better is concluded in four of five."""
    rng = np.random.default_rng(n)
    spread = 0.2
    delta = detectable_effect(0.5, spread / n**0.5, n)
    assert delta is not None
    k = 0.25 / spread**2 - 1  # a beta of that spread at one half
    scores = rng.beta(k * (0.5 + delta), k * (0.5 - delta), size=(6000, n))
    errors = scores.std(axis=1, ddof=1) / n**0.5
    found = [
        _better(float(r), float(e), n) for r, e in zip(scores.mean(axis=1), errors, strict=True)
    ]
    assert 0.78 <= sum(found) / len(found) <= 0.82


def _better(rate: float, error: float, n: int) -> bool:
    return conclusion(*wilson_effective(rate, error, n)) == "better"
