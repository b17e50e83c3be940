"""Which 128-bit keys have been seen, at 25 bytes a key.

Sorted runs, each at least twice as long as the next: a look-up is a binary search in each run,
and every key is merged into longer runs at most log(n) times.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
"""[n, 2]: the two halves of each key."""


@dataclass(frozen=True)
class _Run:
    high: NDArray[np.uint64]  # ascending
    low: NDArray[np.uint64]
    place: NDArray[np.int64]
    note: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.high)


@dataclass(frozen=True)
class Found:
    """What was there before: for each key the place and note of its first sight; -1 where new."""

    place: NDArray[np.int64]
    note: NDArray[np.int8]

    @property
    def new(self) -> NDArray[np.bool_]:
        """The keys that nobody had seen."""
        fresh: NDArray[np.bool_] = self.place < 0
        return fresh


class Seen:
    """Keys, each with the place where it was first seen and a small note about it."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def add(self, keys: Keys, places: NDArray[np.int64], notes: NDArray[np.int8]) -> Found:
        """Look the keys up in their order and remember the new ones.

        A key that comes twice in `keys` is found the second time.
        """
        order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: equal keys stay in their order
        ordered = keys[order]
        first = np.ones(len(keys), bool)
        first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        unique = ordered[first]
        place, note = self._look_up(unique)
        fresh = place < 0
        heads = order[first]
        group = np.cumsum(first) - 1
        # All but the first of a group find either what was known or the first.
        known_place = np.where(fresh, places[heads], place)[group]
        known_note = np.where(fresh, notes[heads], note)[group]
        is_new = first & fresh[group]
        found = Found(np.empty(len(keys), np.int64), np.empty(len(keys), np.int8))
        found.place[order] = np.where(is_new, -1, known_place)
        found.note[order] = known_note
        self._insert(
            _Run(unique[fresh, 0], unique[fresh, 1], places[heads][fresh], notes[heads][fresh])
        )
        return found

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Which of the keys have been seen."""
        known: NDArray[np.bool_] = self._look_up(keys)[0] >= 0
        return known

    def _look_up(self, keys: Keys) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        place, note = np.full(len(keys), -1), np.zeros(len(keys), np.int8)
        for run in self._runs:
            at = np.searchsorted(run.high, keys[:, 0])
            while True:
                inside = np.minimum(at, len(run) - 1)
                same = (at < len(run)) & (run.high[inside] == keys[:, 0])
                hit = same & (run.low[inside] == keys[:, 1])
                place[hit], note[hit] = run.place[inside[hit]], run.note[inside[hit]]
                again = same & ~hit  # two keys share a half: look at the next
                if not again.any():
                    break
                at = at + again
                at[hit] = len(run)
        return place, note

    def _insert(self, run: _Run) -> None:
        if not len(run):
            return
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = _merged(self._runs.pop(), run)
        self._runs.append(run)


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

    return _Run(
        column(one.high, two.high),
        column(one.low, two.low),
        column(one.place, two.place),
        column(one.note, two.note),
    )
