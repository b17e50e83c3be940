"""Which 128-bit keys have been seen, at 16 bytes a key and a mark of one to eight bytes.

Sorted runs, each at least twice as long as the next: a look-up is a binary search in each run,
and every key is merged into longer runs at most log(n) times.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
"""[n, 2]: the two halves of each key."""
Marks = NDArray[np.signedinteger[Any]]
"""[n]: what is known of each key, a number from 0."""


@dataclass(frozen=True)
class _Run:
    high: NDArray[np.uint64]  # ascending
    low: NDArray[np.uint64]
    marks: Marks

    def __len__(self) -> int:
        return len(self.high)


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
        order = _order(keys)
        high, low = keys[order, 0], keys[order, 1]
        first = np.ones(len(keys), bool)
        first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        heads = order[first]
        before = self._look_up(high[first], low[first])
        fresh = before < 0
        self._insert(_Run(high[first][fresh], low[first][fresh], given[heads][fresh]))
        # All but the first of a group find either what was known or the first.
        group = np.cumsum(first) - 1
        known = np.where(fresh, given[heads], before)[group]
        found = np.empty(len(keys), self._type)
        found[order] = np.where(first & fresh[group], -1, known)
        return found

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Which of the keys have been seen."""
        known: NDArray[np.bool_] = self._look_up(keys[:, 0], keys[:, 1]) >= 0
        return known

    def _look_up(self, high: NDArray[np.uint64], low: NDArray[np.uint64]) -> Marks:
        marks = np.full(len(high), -1, self._type)
        for run in self._runs:
            at = np.searchsorted(run.high, high)
            rest = np.flatnonzero(at < len(run))
            while len(rest := rest[run.high[at[rest]] == high[rest]]):
                hit = run.low[at[rest]] == low[rest]
                marks[rest[hit]] = run.marks[at[rest[hit]]]
                rest = rest[~hit]  # two keys share a half: look at the next
                at[rest] += 1
                rest = rest[at[rest] < len(run)]
        return marks

    def _insert(self, run: _Run) -> None:
        if not len(run):
            return
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = _merged(self._runs.pop(), run)
        self._runs.append(run)


def _order(keys: Keys) -> NDArray[np.int64]:
    """The order of the keys; equal ones stay in theirs."""
    order = np.argsort(keys[:, 0], kind="stable")
    high, low = keys[order, 0], keys[order, 1]
    # Halves that two keys share are so rare that sorting by both would be wasted.
    if ((high[1:] == high[:-1]) & (low[1:] != low[:-1])).any():
        order = np.lexsort((keys[:, 1], keys[:, 0]))
    return order


def _merged(one: _Run, two: _Run) -> _Run:
    """Both runs as one: the rows of `two` go in front of the first greater row of `one`."""
    size = len(one) + len(two)
    taken = np.searchsorted(one.high, two.high, side="right") + np.arange(len(two))
    free = np.ones(size, bool)
    free[taken] = False

    def column(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
        both = np.empty(size, left.dtype)
        both[taken], both[free] = right, left
        return both

    return _Run(column(one.high, two.high), column(one.low, two.low), column(one.marks, two.marks))
