"""Caps and weights: shares by hand, and draws that depend on ids and seed alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigError
from stages.ingest.cleaning.mixture import Share, drawn, quotas

IDS = [f"{i:032x}" for i in range(500)]


def test_caps_alone() -> None:
    shares = {"a": Share(max_kept=10), "b": Share()}
    assert quotas({"a": 30, "b": 7}, shares) == {"a": (10, "over_cap"), "b": (7, "over_cap")}


def test_weights_are_shares_of_the_largest_mixture_without_repeats() -> None:
    shares = {"a": Share(weight=3), "b": Share(weight=1)}
    assert quotas({"a": 90, "b": 100}, shares) == {"a": (90, "over_cap"), "b": (30, "over_weight")}
    assert quotas({"a": 900, "b": 100}, shares) == {
        "a": (300, "over_weight"),
        "b": (100, "over_cap"),
    }


def test_a_cap_comes_before_the_weights() -> None:
    shares = {"a": Share(max_kept=20, weight=0.5), "b": Share(weight=0.5)}
    assert quotas({"a": 90, "b": 100}, shares) == {"a": (20, "over_cap"), "b": (20, "over_weight")}


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(0.01, 100)), min_size=1, max_size=5))
def test_shares_are_kept_within_a_row(sources: list[tuple[int, float]]) -> None:
    available = {str(i): count for i, (count, _) in enumerate(sources)}
    shares = {str(i): Share(weight=weight) for i, (_, weight) in enumerate(sources)}
    kept = {name: count for name, (count, _) in quotas(available, shares).items()}
    assert all(kept[name] <= available[name] for name in available)
    assert any(kept[name] >= available[name] - 1 for name in available)
    per_weight = [kept[str(i)] / weight for i, (_, weight) in enumerate(sources)]
    slack = [1 / weight for _, weight in sources]
    assert max(per_weight) - min(per_weight) <= 2 * max(slack) + 1e-6 * max(per_weight)


def test_weights_for_some_or_for_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="b has no weight"):
        quotas({"a": 1, "b": 1}, {"a": Share(weight=1), "b": Share()})
    with pytest.raises(ConfigError, match="a has a weight and no row"):
        quotas({"a": 0, "b": 1}, {"a": Share(weight=1), "b": Share(weight=1)})


def test_a_draw_depends_on_seed_and_ids() -> None:
    one = {IDS[i] for i in drawn(IDS, 100, seed=0)}
    assert {IDS[::-1][i] for i in drawn(IDS[::-1], 100, seed=0)} == one
    assert {IDS[i] for i in drawn(IDS, 100, seed=1)} != one
    assert drawn(IDS, 500, seed=0) == drawn(IDS, 900, seed=0) == set(range(500))


def test_more_rows_exchange_few_of_those_drawn() -> None:
    few = {IDS[i] for i in drawn(IDS[:450], 100, seed=0)}
    more = {IDS[i] for i in drawn(IDS, 100, seed=0)}
    assert len(few & more) >= 80
    assert more - few <= set(IDS[450:])
