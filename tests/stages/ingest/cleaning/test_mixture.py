"""Caps and weights: shares by hand, and draws that depend on ids and seed alone."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigError
from schemas.ids import seed_from
from stages.ingest.mixture import Lots, Share, quotas

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


def drawn(ids: Sequence[str], count: int, seed: int = 0) -> set[str]:
    """The ids that stay, added in parts."""
    lots = Lots(seed)
    for first in range(0, len(ids), 70):
        lots.add(ids[first : first + 70])
    assert len(lots) == len(ids)
    beyond = lots.beyond(count).tobytes().hex()
    gone = [beyond[at : at + 32] for at in range(0, len(beyond), 32)]
    assert gone == sorted(gone)
    return set(ids) - set(gone)


def test_a_draw_depends_on_seed_and_ids() -> None:
    one = drawn(IDS, 100)
    assert one == set(sorted(IDS, key=lambda i: (seed_from(0, "mixture", i), i))[:100])
    assert drawn(IDS[::-1], 100) == one
    assert drawn(IDS, 100, seed=1) != one
    assert drawn(IDS, 500) == drawn(IDS, 900) == set(IDS)
    assert drawn([], 3) == set()


def test_more_rows_exchange_few_of_those_drawn() -> None:
    few, more = drawn(IDS[:450], 100), drawn(IDS, 100)
    assert len(few & more) >= 80
    assert more - few <= set(IDS[450:])
