"""Which keys have been seen, at 12 bytes a key and a mark of one to eight bytes.

Sorted runs, each at least twice as long as the next: a look-up is a binary search in each run,
and every key is merged into longer runs at most log(n) times. Of keys of 128 bits, 96 are kept:
among a thousand million keys, two share them with a probability of 6e-12.
"""

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
"""[n, 2]: the two halves of each key."""
Marks = NDArray[np.signedinteger[Any]]
"""[n]: what is known of each key, a number from 0."""


# Three arrays of one length: first parts of keys, ascending, second parts, and marks.
_Run = list[NDArray[Any]]
_LARGE_BYTES = 1 << 20


class Seen:
    """Keys, each with the mark it had when it was first seen."""

    def __init__(self, marks: type[np.signedinteger[Any]] = np.int8) -> None:
        """`marks` is the type that holds every mark."""
        self._type = marks
        self._runs: list[_Run] = []

    def add(self, keys: Keys, marks: Marks | None = None) -> Marks:
        """Look the keys up in their order and remember the new ones, marked 0 if nothing is said.

        Returns [n] marks of the first sight, -1 where a key is new. A key that comes twice in
        `keys` is found the second time.
        """
        given = np.zeros(len(keys), self._type) if marks is None else marks.astype(self._type)
        high, low = _parts(keys)
        order = _order(high, low)
        high, low = high[order], low[order]
        first = np.ones(len(keys), bool)
        first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        heads = order[first]
        before = self._look_up(high[first], low[first])
        fresh = before < 0
        self._insert([high[first][fresh], low[first][fresh], given[heads][fresh]])
        # All but the first of a group find either what was known or the first.
        group = np.cumsum(first) - 1
        known = np.where(fresh, given[heads], before)[group]
        found = np.empty(len(keys), self._type)
        found[order] = np.where(first & fresh[group], -1, known)
        return found

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Which of the keys have been seen."""
        known: NDArray[np.bool_] = self._look_up(*_parts(keys)) >= 0
        return known

    def _look_up(self, high: NDArray[np.uint64], low: NDArray[np.uint32]) -> Marks:
        marks = np.full(len(high), -1, self._type)
        for first, second, known in self._runs:
            at = np.searchsorted(first, high)
            rest = np.flatnonzero(at < len(first))
            while len(rest := rest[first[at[rest]] == high[rest]]):
                hit = second[at[rest]] == low[rest]
                marks[rest[hit]] = known[at[rest[hit]]]
                rest = rest[~hit]  # two keys share the first part: look at the next
                at[rest] += 1
                rest = rest[at[rest] < len(first)]
        return marks

    def _insert(self, run: _Run) -> None:
        if not len(run[0]):
            return
        while self._runs and len(self._runs[-1][0]) < 2 * len(run[0]):
            run = _merged(self._runs.pop(), run)
        self._runs.append(run)


def _parts(keys: Keys) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    return keys[:, 0], keys[:, 1].astype(np.uint32)


def _order(high: NDArray[np.uint64], low: NDArray[np.uint32]) -> NDArray[np.int64]:
    """The order of the keys; equal ones stay in theirs."""
    order = np.argsort(high, kind="stable")
    ordered, rest = high[order], low[order]
    # Parts that two keys share are so rare that sorting by both would be wasted.
    if ((ordered[1:] == ordered[:-1]) & (rest[1:] != rest[:-1])).any():
        order = np.lexsort((low, high))
    return order


def _merged(one: _Run, two: _Run) -> _Run:
    """Both runs as one: the rows of `two` go in front of the first greater row of `one`.

    Column by column, each freed at once: the longest runs are most of the memory.
    """
    taken = np.searchsorted(one[0], two[0], side="right") + np.arange(len(two[0]))
    free = np.ones(len(one[0]) + len(two[0]), bool)
    free[taken] = False
    merged = []
    while one:
        left, right = one.pop(0), two.pop(0)
        both = _mapped(len(free), left.dtype)
        both[taken], both[free] = right, left
        merged.append(both)
    return merged


def _mapped(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array; a large one has pages of its own, given back with it: elsewhere it left a hole."""
    size_bytes = size * dtype.itemsize
    if size_bytes < _LARGE_BYTES:
        return np.empty(size, dtype)
    return np.frombuffer(mmap.mmap(-1, size_bytes), dtype)
