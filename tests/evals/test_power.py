"""The smallest detectable effect is what it says: there a test finds it four times of five."""

import numpy as np
import pytest

from evals.statistics.conclusions import conclusion
from evals.statistics.intervals import wilson_effective
from evals.statistics.power import detectable_effect, prompts_to_settle


def test_at_a_rate_near_one_it_is_not_the_error_seen() -> None:
    error = (0.96 * 0.04 / 99) ** 0.5
    assert detectable_effect(0.96, error, 100) == pytest.approx(0.138, abs=0.002)
    assert (prompts_to_settle(0.96, error, 100) or 0) >= 7
    assert detectable_effect(0.5, None, 0) is None
    assert prompts_to_settle(0.5, 0.05, 100) is None


@pytest.mark.parametrize(("n", "low", "high"), [(100, 0.76, 0.85), (400, 0.77, 0.83)])
@pytest.mark.parametrize("soft", [False, True])
def test_power_at_the_detectable_effect(n: int, low: float, high: float, soft: bool) -> None:
    """Scores drawn at 0.5 + the effect: a better is concluded in four of five."""
    rng = np.random.default_rng([n, soft])
    spread = 0.5 if not soft else 0.2
    delta = detectable_effect(0.5, spread / n**0.5, n)
    assert delta is not None
    found = 0
    for _ in range(2000):
        if soft:
            k = 0.25 / spread**2 - 1  # a beta of that spread at one half
            scores = rng.beta(k * (0.5 + delta), k * (0.5 - delta), size=n)
        else:
            scores = (rng.random(n) < 0.5 + delta).astype(float)
        error = float(scores.std(ddof=1)) / n**0.5
        interval = wilson_effective(float(scores.mean()), error, n)
        found += conclusion(*interval) == "better"
    assert low <= found / 2000 <= high
