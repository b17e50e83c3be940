"""The two policies against their definitions in plain Python."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.ingest.near_duplicates.keys import id_keys
from stages.ingest.near_duplicates.search import Groups, surplus

Pairs = list[tuple[int, int]]
TEXTS = 10
PAIRS = st.lists(st.tuples(*[st.integers(0, TEXTS - 1)] * 2), max_size=14).map(
    lambda pairs: sorted({(min(p), max(p)) for p in pairs if p[0] != p[1]})
)
TEST = st.lists(st.booleans(), min_size=TEXTS, max_size=TEXTS)


def moves(pairs: Pairs, test: list[bool], part: int = 3) -> list[int]:
    groups = Groups(len(test))
    for first in range(0, len(pairs), part):
        some = np.array(pairs[first : first + part], np.uint32)
        groups.join(some)
        assert not groups.apart(some).any()
    before = np.array(test, np.uint8)
    moved = np.flatnonzero(groups.held_out_together(before) > before)
    return [int(text) for text in moved]


def test_a_group_is_held_out_as_strictly_as_its_strictest_member() -> None:
    groups = Groups(7)
    groups.join(np.array([(0, 1), (1, 2), (3, 4)], np.uint32))
    levels = np.array([0, 1, 2, 1, 0, 0, 1], np.uint8)
    assert groups.held_out_together(levels).tolist() == [2, 2, 2, 1, 1, 0, 1]


def test_near_copies_of_what_is_held_out_are_held_out() -> None:
    assert moves([(0, 1), (1, 2), (3, 4)], [i == 2 for i in range(6)]) == [0, 1]
    assert moves([], [True, False]) == []
    long = [(i, i + 1) for i in range(999)]
    assert moves(long[::-1], [i == 500 for i in range(1000)]) == [*range(500), *range(501, 1000)]


@given(PAIRS.flatmap(st.permutations), TEST, st.integers(1, 5))
def test_groups_are_held_out_whole(pairs: Pairs, test: list[bool], part: int) -> None:
    group = list(range(TEXTS))
    for _ in range(TEXTS):
        for a, b in pairs:
            group[a] = group[b] = min(group[a], group[b])
    groups = Groups(TEXTS)
    groups.join(np.array(pairs, np.uint32).reshape(-1, 2))
    every = np.array(list(combinations(range(TEXTS), 2)))
    assert groups.apart(every).tolist() == [group[a] != group[b] for a, b in every]
    held_out = {group[i] for i in range(TEXTS) if test[i]}
    expected = [i for i in range(TEXTS) if group[i] in held_out and not test[i]]
    assert moves(pairs, test, part) == expected


@given(PAIRS, TEST)
def test_more_rows_never_take_anything_out_of_the_test_split(
    pairs: Pairs, test: list[bool]
) -> None:
    def held_out(limit: int) -> set[int]:
        """The test split once the first `limit` texts have been read."""
        known = [p for p in pairs if max(p) < limit]
        after = {i for i in range(TEXTS) if test[i]} | set(moves(known, test))
        assert all((a in after) == (b in after) for a, b in known)
        return {i for i in after if i < limit}

    assert held_out(6) <= held_out(10)


def plain_surplus(
    pairs: Pairs, alike: list[float], test: list[bool], ids: list[str]
) -> dict[str, tuple[str, float]]:
    """One after the other, held-out ones first, then by id: what is near one that stays goes."""
    near = {**dict(zip(pairs, alike, strict=True))}
    near |= {(b, a): s for (a, b), s in near.items()}
    stay: list[int] = []
    gone = {}
    for text in sorted(range(len(ids)), key=lambda i: (not test[i], ids[i])):
        like = [(-near[text, other], ids[other]) for other in stay if (text, other) in near]
        if like:
            gone[ids[text]] = (min(like)[1], -min(like)[0])
        else:
            stay.append(text)
    return gone


@given(PAIRS, TEST, st.data())
def test_what_is_dropped_is_near_what_is_kept(
    pairs: Pairs, test: list[bool], data: st.DataObject
) -> None:
    draws = st.lists(st.integers(0, 2**128 - 1), min_size=TEXTS, max_size=TEXTS, unique=True)
    ids = [f"{number:032x}" for number in data.draw(draws)]
    alike = [data.draw(st.sampled_from((0.7, 0.8, 0.95))) for _ in pairs]
    parts = [
        (np.array(pairs[i : i + 4], np.uint32), np.array(alike[i : i + 4]))
        for i in range(0, len(pairs), 4)
    ]
    found = surplus(parts, np.array(test, np.uint8), id_keys(ids))
    assert found.keys.tobytes().hex() == "".join(sorted(plain_surplus(pairs, alike, test, ids)))
    for index, (text, (like, s)) in enumerate(
        sorted(plain_surplus(pairs, alike, test, ids).items())
    ):
        assert found.keys[index : index + 1].tobytes().hex() == text
        error = found.error(index)
        assert error.reason == "near_duplicate"
        assert error.detail == f"{s:.0%} of its word triples are those of prompt {like}"


def test_a_long_chain_loses_every_other() -> None:
    ids = [f"{number:032x}" for number in range(500)]
    pairs = np.array([(i, i + 1) for i in range(499)], np.uint32)
    found = surplus([(pairs, np.full(499, 0.8))], np.zeros(500, bool), id_keys(ids))
    assert found.keys.tobytes().hex() == "".join(ids[1::2])
    assert found.alike.tolist() == pytest.approx([0.8] * 250)
