"""Near-duplicate prompts: kept in one split, or only one of them kept.

Splits are by the prompt's own hash, so a reworded copy may fall on the other side. Either all near
copies of a held-out prompt are held out with it, or only one of each group is kept. In both cases
a prompt that was held out stays held out when rows are added.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.ingest.examples import RowError


class Groups:
    """The connected components of near pairs as they are found; 4 bytes a text."""

    def __init__(self, texts: int) -> None:
        self._above = np.arange(texts, dtype=np.uint32)

    def join(self, pairs: NDArray[np.integer[Any]]) -> None:
        """Let both of each of [pairs, 2] be in one group."""
        while len(pairs):
            # Of two groups the one with the higher root hangs itself below the other.
            ends = self._roots(pairs)
            pairs = ends[ends[:, 0] != ends[:, 1]]
            np.minimum.at(self._above, pairs.max(1), pairs.min(1))

    def apart(self, pairs: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """[pairs] whether the two are in different groups so far."""
        ends = self._roots(pairs)
        different: NDArray[np.bool_] = ends[:, 0] != ends[:, 1]
        return different

    def held_out_together(self, levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """[texts] how strictly each is held out so that no group is divided.

        A group is held out as strictly as its strictest member. More rows can only hold out more:
        nothing held out ever moves into train.
        """
        roots = self._roots(np.arange(len(levels)))
        strictest = np.zeros(len(levels), np.uint8)
        np.maximum.at(strictest, roots, levels)
        found: NDArray[np.uint8] = strictest[roots]
        return found

    def _roots(self, texts: NDArray[np.integer[Any]]) -> NDArray[np.uint32]:
        """What is at last above each text, and from now on at once."""
        roots: NDArray[np.uint32] = self._above[texts]
        while ((higher := self._above[roots]) != roots).any():
            roots = higher
        self._above[texts] = roots
        return roots


@dataclass(frozen=True)
class Surplus:
    """Prompts that go because others say nearly the same.

    `keys` [dropped] ascending are the prompts' `keys.id_keys`, `like` [dropped] those of what
    is kept instead, `alike` [dropped] the similarities.
    """

    keys: NDArray[np.bytes_]
    like: NDArray[np.bytes_]
    alike: NDArray[np.float64]

    def error(self, index: int) -> RowError:
        """Why that one goes."""
        like = self.like[index : index + 1].tobytes().hex()
        said = f"{self.alike[index]:.0%} of its word triples are those of prompt {like}"
        return RowError("near_duplicate", said)


def surplus(
    parts: Iterable[tuple[NDArray[np.integer[Any]], NDArray[np.float64]]],
    levels: NDArray[np.uint8],
    keys: NDArray[np.bytes_],
) -> Surplus:
    """The texts to drop so that no near pair is left.

    Args:
        parts: [pairs, 2] texts that are near each other, and [pairs] how alike, part by part.
        levels: [texts] how strictly each is held out.
        keys: [texts] their keys.

    The most strictly held-out prompts are kept first, then by key; one is dropped only where it is
    near one that is kept, so a chain of small changes loses no more than it must. Memory is about
    80 bytes a pair.
    """
    empty = (np.empty((0, 2), np.uint32), np.empty(0))
    pairs, similarity = (np.concatenate(side) for side in zip(empty, *parts, strict=True))
    texts, places = np.unique(pairs, return_inverse=True)
    first_comes_first = np.lexsort((keys[texts], ~levels[texts]))
    turn = np.empty(len(texts), np.int64)
    turn[first_comes_first] = np.arange(len(texts))
    turns = np.sort(turn[places.reshape(pairs.shape)], 1)
    kept = _kept(turns, len(texts))
    own = keys[texts[first_comes_first]]
    why = kept[turns[:, 0]] & ~kept[turns[:, 1]]
    return _most_alike(own[turns[why, 1]], own[turns[why, 0]], similarity[why])


def _most_alike(
    gone: NDArray[np.bytes_], like: NDArray[np.bytes_], alike: NDArray[np.float64]
) -> Surplus:
    """Each that goes once, with what it is most like; of several the first by key."""
    order = np.lexsort((like, -alike, gone))
    first = np.ones(len(order), bool)
    first[1:] = gone[order][1:] != gone[order][:-1]
    best = order[first]
    return Surplus(gone[best], like[best], alike[best])


def _kept(turns: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Which of `count` are kept when one after the other is, unless it is near one kept before.

    `turns` [pairs, 2] are near pairs, the earlier first. In each round all those are kept that
    nobody undecided stands before, and their neighbours go.
    """
    kept, gone = np.zeros(count, bool), np.zeros(count, bool)
    while len(turns):
        waiting = np.zeros(count, bool)
        waiting[turns[:, 1]] = True
        kept |= ~waiting & ~gone
        gone[turns[kept[turns[:, 0]], 1]] = True
        turns = turns[~gone[turns].any(1)]
    return ~gone
