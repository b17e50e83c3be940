"""Dealing the items of a step to ranks, and how ranks wait for each other: no process needed."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import BackendError
from stages.training.distributed import world
from stages.training.distributed.rank_coordination import fails_first, hear, leading, tell
from stages.training.distributed.rank_partition import Dealt, deal
from stages.training.distributed.world import World, current_world

Sizes = st.lists(st.integers(1, 500), min_size=1, max_size=40)


@given(Sizes, st.integers(1, 9))
def test_every_item_is_dealt_once_and_no_rank_is_far_behind(sizes: list[int], ranks: int) -> None:
    parts = deal(sizes, ranks)
    assert sorted(index for part in parts for index in part) == list(range(len(sizes)))
    totals = [sum(sizes[i] for i in part) for part in parts]
    assert max(totals) - min(totals) <= max(sizes)


def test_one_rank_keeps_everything_in_order() -> None:
    assert deal([5, 9, 1], 1) == [[0, 1, 2]]


def dealt_on(rank: int, size: int, items: Sequence[int]) -> Dealt[int]:
    """Items of as many tokens as their value, at most 10 a pass."""

    def micro_batches(mine: Sequence[int]) -> list[list[int]]:
        groups: list[list[int]] = []
        for item in mine:
            if groups and sum(groups[-1]) + item <= 10:
                groups[-1].append(item)
            else:
                groups.append([item])
        return groups

    world._worlds.append(World(rank, size))
    try:
        return Dealt(items, int, micro_batches)
    finally:
        world._worlds.pop()


@given(st.lists(st.integers(1, 10), min_size=1, max_size=20), st.integers(1, 5))
def test_all_ranks_make_as_many_passes_and_every_item_has_its_weight_once(
    items: list[int], size: int
) -> None:
    ranks = [dealt_on(rank, size, items) for rank in range(size)]
    passes = [list(dealt.passes()) for dealt in ranks]
    assert len({len(one) for one in passes}) == 1
    seen = [item for one in passes for micro, weight in one if weight for item in micro]
    assert sorted(seen) == sorted(items)
    assert seen == ranks[0].items == ranks[-1].items
    assert {weight for one in passes for _, weight in one} <= {0.0, size}


def test_columns_of_a_process_alone_are_those_of_its_passes() -> None:
    dealt = dealt_on(0, 1, [4, 6, 7])
    parts = [{"loss": torch.tensor([float(i) for i in micro])} for micro, _ in dealt.passes()]
    assert dealt.columns(parts)["loss"].tolist() == dealt.items == [4, 6, 7]


def test_a_process_alone_agrees_with_itself() -> None:
    assert current_world().agree("this") == "this"


@pytest.fixture
def ranks() -> tuple[World, World]:
    store = torch.distributed.HashStore()  # type: ignore[attr-defined]
    return World(0, 2, store=store), World(1, 2, store=store)


def test_a_rank_hears_what_rank_zero_tells(ranks: tuple[World, World]) -> None:
    main, other = ranks
    with leading(main):
        tell(main, 0, "begin")
        assert hear(other, 0, patience_seconds=30) == "begin"


def test_a_rank_does_not_wait_for_a_dead_rank_zero(ranks: tuple[World, World]) -> None:
    main, other = ranks
    with leading(main):
        pass
    with pytest.raises(BackendError, match="rank 1: rank 0 is gone; nothing is lost"):
        hear(other, 0, patience_seconds=0.3)


def test_only_the_first_failure_is_said(ranks: tuple[World, World]) -> None:
    main, other = ranks
    assert fails_first(other, "out of memory")
    assert not fails_first(main, "another rank is gone")
    with pytest.raises(SystemExit):
        hear(other, 0, patience_seconds=30)
