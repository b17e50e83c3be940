"""Variance components against what was put in."""

import math

import numpy as np
import pytest

from evals.statistics.noise import Array, chi_square_quantiles, noise_floor


def drawn(
    rng: np.random.Generator, seeds: int, *, seed: float, prompt: float, sample: float, order: float
) -> Array:
    """Scores around 0.6 of 200 prompts, two samples and both orders, with given deviations."""
    shape = (200, seeds, 2, 2)
    return np.asarray(
        0.6
        + seed * rng.standard_normal((1, seeds, 1, 1))
        + prompt * rng.standard_normal((200, 1, 1, 1))
        + sample * rng.standard_normal((200, seeds, 2, 1))
        + order * rng.standard_normal(shape)
    )


def test_each_component_is_found() -> None:
    rng = np.random.default_rng(1)
    given = {"seed": 0.05, "prompt": 0.2, "sample": 0.1, "order": 0.15}
    floor = noise_floor(drawn(rng, 40, **given))
    assert floor is not None
    found = {one.source: one for one in floor.components}
    names = {
        "training seed": "seed",
        "prompts": "prompt",
        "sampling": "sample",
        "judge order": "order",
    }
    assert set(found) == set(names)
    for source, name in names.items():
        assert found[source].value == pytest.approx(given[name], rel=0.35)
        assert found[source].low <= given[name] <= found[source].high


def test_intervals_cover_with_three_seeds_too() -> None:
    """The mean of three trainings, and a fourth one's rate: 95%, by 400 simulated experiments."""
    rng = np.random.default_rng(2)
    held = ahead = 0
    for _ in range(400):
        scores = drawn(rng, 4, seed=0.04, prompt=0.2, sample=0.1, order=0.1)
        floor = noise_floor(scores[:, :3])
        assert floor is not None
        held += floor.low <= 0.6 <= floor.high
        ahead += floor.next_low <= float(scores[:, 3].mean()) <= floor.next_high
    assert held / 400 >= 0.93
    assert 0.92 <= ahead / 400 <= 0.98


def test_a_gain_is_compared_with_what_a_rerun_moves() -> None:
    rng = np.random.default_rng(3)
    steady = noise_floor(drawn(rng, 3, seed=0.001, prompt=0.1, sample=0.0, order=0.0))
    shaky = noise_floor(drawn(rng, 3, seed=0.2, prompt=0.1, sample=0.0, order=0.0))
    assert steady is not None
    assert shaky is not None
    assert steady.exceeds_a_rerun
    assert not shaky.exceeds_a_rerun


def test_one_training_has_no_noise_floor() -> None:
    assert noise_floor(np.zeros((10, 1, 1, 2))) is None
    assert noise_floor(np.zeros((1, 3, 1, 2))) is None


@pytest.mark.parametrize(
    ("df", "low", "high"),
    [(1, 0.000982, 5.0239), (2, 0.0506, 7.3778), (3, 0.2158, 9.3484), (100, 74.222, 129.561)],
)
def test_chi_square_quantiles(df: int, low: float, high: float) -> None:
    """Against tables."""
    found = chi_square_quantiles(df)
    assert found[0] == pytest.approx(low, rel=0.002)
    assert found[1] == pytest.approx(high, rel=0.002)
    assert math.isfinite(found[0])
