"""Paired differences of policies: exact small cases, symmetry, level and power."""

import itertools
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evals.statistics.estimates import paired_difference
from evals.win_rate.differences import holm, policy_difference, policy_differences, sign_flip_p


def keyed(values: Iterable[float]) -> dict[str, float]:
    return {f"p{i:03d}": value for i, value in enumerate(values)}


def test_sign_flip_is_near_the_exact_enumeration() -> None:
    differences = [0.5, 0.25, -0.125, 0.75, 0.5, 0.25, 0.125, -0.25]
    seen = abs(sum(differences))
    flips = list(itertools.product((-1, 1), repeat=len(differences)))
    reached = sum(
        abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= seen for signs in flips
    )
    assert sign_flip_p(differences) == pytest.approx(reached / len(flips), abs=0.015)


def test_no_difference_at_all_has_p_one() -> None:
    assert sign_flip_p([0.0] * 20) == 1.0
    assert sign_flip_p([]) == 1.0


def test_a_difference_seen_on_every_prompt_is_found() -> None:
    found = policy_difference(keyed([0.6] * 100), keyed([0.4] * 100))
    assert found is not None
    assert found.difference.value == pytest.approx(0.2)
    assert found.p_value < 0.001
    assert found.difference.n == 100


def test_pairing_finds_what_two_intervals_would_hide() -> None:
    rng = np.random.default_rng(1)
    base = rng.uniform(0.1, 0.8, size=200)
    better = base + 0.05 + rng.normal(0, 0.05, size=200)
    found = policy_difference(keyed(better.clip(0, 1).tolist()), keyed(base.tolist()))
    assert found is not None
    assert found.verdict == "better"
    assert found.p_value < 0.001


def test_only_common_prompts_count_and_none_is_no_result() -> None:
    found = policy_difference({"a": 1.0, "b": 0.0}, {"b": 0.0, "c": 1.0})
    assert found is not None
    assert found.difference.n == 1
    assert policy_difference({"a": 1.0}, {"b": 1.0}) is None


@example([(0, 0)] * 10 + [(8, 0)] * 4)  # exactly as many events as the interval needs
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=2, max_size=30))
def test_exchanging_the_policies_mirrors_the_difference(pairs: list[tuple[int, int]]) -> None:
    one, two = keyed([a / 8 for a, _ in pairs]), keyed([b / 8 for _, b in pairs])
    forth, back = policy_difference(one, two), policy_difference(two, one)
    assert forth is not None
    assert back is not None
    assert forth.difference.value == pytest.approx(-(back.difference.value or 0))
    assert forth.p_value == back.p_value
    assert forth.prompts_to_settle == back.prompts_to_settle
    mirrored = {"better": "worse", "worse": "better", "cannot tell": "cannot tell"}
    assert mirrored[forth.verdict] == back.verdict


def test_the_smallest_detectable_difference_is_that_of_the_paired_spread() -> None:
    rng = np.random.default_rng(2)
    one, two = rng.uniform(size=400), rng.uniform(size=400)
    found = policy_difference(keyed(one.tolist()), keyed(two.tolist()))
    assert found is not None
    spread = (one - two).std(ddof=1)
    assert found.minimum_detectable_effect == pytest.approx(2.8016 * spread / 20, rel=1e-2)
    assert found.prompts_to_settle == pytest.approx(
        (2.8016 * spread / found.difference.value) ** 2, rel=2e-2
    )


def test_a_few_discordant_prompts_are_no_proof() -> None:
    """4 of 100 differ, all one way: p is 1/8, and the interval says so too."""
    found = policy_difference(keyed([1.0] * 4 + [0.5] * 96), keyed([0.0] * 4 + [0.5] * 96))
    assert found is not None
    assert found.verdict == "cannot tell"
    assert found.p_value == pytest.approx(0.125, abs=0.02)
    assert found.difference.ci_low is not None
    assert found.difference.ci_low < 0


def test_where_all_agree_the_interval_is_narrow() -> None:
    found = policy_difference(keyed([0.5] * 101), keyed([0.5] * 101))
    assert found is not None
    low, high = found.difference.ci_low or 0.0, found.difference.ci_high or 0.0
    assert high == -low == pytest.approx(1.96 * (2 / 103) ** 0.5 / 102**0.5, rel=1e-3)


@pytest.mark.parametrize("discordant", [0.04, 0.2])
def test_the_paired_interval_holds_its_coverage(discordant: float) -> None:
    rng = np.random.default_rng(5)
    truth, inside = discordant * 0.4, 0
    for _ in range(400):
        d = rng.choice(
            [1.0, -1.0, 0.0], 100, p=[0.7 * discordant, 0.3 * discordant, 1 - discordant]
        )
        found = paired_difference(
            keyed((d > 0).astype(float).tolist()), keyed((d < 0).astype(float).tolist())
        )
        assert found is not None
        inside += (found.ci_low or 0.0) <= truth <= (found.ci_high or 0.0)
    assert inside / 400 >= 0.93


def test_holm_concludes_and_counts_all() -> None:
    """Of five equal models hardly any report calls one better: the error is of all together."""
    rng = np.random.default_rng(6)
    called = 0
    for _ in range(60):
        scores = {f"m{i}": keyed(rng.choice([0.0, 1.0], 60).tolist()) for i in range(5)}
        first = scores.pop("m0")
        found = policy_differences(first, scores)
        called += any(one.verdict != "cannot tell" for one in found.values())
        for one in found.values():
            assert one.p_holm is not None
            assert (one.verdict == "cannot tell") == (one.p_holm > 0.05)
    assert called / 60 < 0.15


def test_sign_flip_keeps_its_level() -> None:
    rng = np.random.default_rng(3)
    rejected = sum(
        sign_flip_p(rng.choice([-0.5, -0.25, 0.0, 0.25, 0.5], size=40).tolist(), flips=500) <= 0.05
        for _ in range(400)
    )
    assert rejected / 400 == pytest.approx(0.05, abs=0.03)


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06}
    )
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}
