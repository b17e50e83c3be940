"""An index on disk that finds the texts that say nearly the same, however many there are.

Of every text it keeps the set of its word triples (4 bytes each) and a key per band of its MinHash
signature (8 bytes each). A search holds one band at a time in memory: first to find texts with
equal keys, then to estimate from all bands how alike they are. What may be alike enough is
confirmed by the sets themselves, read in small parts.
"""

from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from stages.ingest.near_duplicates.buckets import bucket_pairs
from stages.ingest.near_duplicates.minhash import (
    BANDS,
    ROWS,
    agreeing,
    ascending,
    band_columns,
    jaccard,
    signatures,
)
from stages.ingest.near_duplicates.pair_runs import PairRuns
from stages.ingest.near_duplicates.scratch import Scratch
from stages.ingest.near_duplicates.words import Words

Wanted = Callable[[NDArray[np.uint32]], NDArray[np.bool_]]
_ESTIMATE_MARGIN = 0.2
"""Four standard errors of a similarity estimated from 80 places, at 0.7."""
_CANDIDATES, _CANDIDATES_PER_TEXT = 1 << 21, 1
_PAIRS = 1 << 12
_SHINGLES = 1 << 18


class TextIndex:
    """Texts, numbered as they are added, and which of them are near each other."""

    def __init__(self, scratch: Scratch) -> None:
        self._sizes = scratch.column("sizes", "u4")
        self._shingles = scratch.column("shingles", "u4")
        self._pairs = scratch.column("pairs", "u8")
        self._bands = [scratch.column(f"band-{band:02d}", "u8") for band in range(BANDS)]

    def __len__(self) -> int:
        """How many texts."""
        return len(self._sizes)

    def add(self, sets: Words) -> None:
        """Take more texts: their `minhash.shingles`."""
        self._sizes.append(np.diff(sets.offsets))
        self._shingles.append(sets.hashes)
        columns = band_columns(signatures(sets))
        for band, keys in zip(self._bands, columns.T, strict=True):
            band.append(keys)

    def near_pairs(
        self, threshold: float, wanted: Wanted | None = None
    ) -> Iterator[tuple["NDArray[np.uint32]", "NDArray[np.float64]"]]:
        """Part by part [pairs, 2] texts (earlier first), and [pairs] how alike they are.

        Args:
            threshold: least Jaccard similarity, from 0.7 to 1.
            wanted: [pairs, 2] -> which of these need to be known, as far as is known by now.

        Every pair is confirmed exactly; one at 0.7 is found with probability 0.996, at 0.8 with
        0.99998. Texts without any word are like nothing. Memory is 24 bytes a text, or what two
        million candidates need where there are fewer texts.
        """
        offsets = self._offsets()
        for likely in self._likely(threshold - _ESTIMATE_MARGIN):
            for some in _one_of_each_first(_texts(likely)):
                open_pairs = some[wanted(some)] if wanted else some
                for pairs in _of_few_shingles(open_pairs, offsets):
                    similarity = self._jaccard(pairs, offsets)
                    near = similarity >= threshold
                    yield pairs[near], similarity[near]

    def _likely(self, least: float) -> PairRuns:
        """Candidates of any band that are estimated to be at least so much alike."""
        likely = PairRuns(self._pairs, len(self))
        for candidates in self._candidates():
            likely.append(self._alike(candidates, least))
        return likely

    def _candidates(self) -> Iterator["NDArray[np.uint64]"]:
        """The pairs of all bands in batches, each ascending and without repeats."""
        limit = max(_CANDIDATES, _CANDIDATES_PER_TEXT * len(self))
        held, count = [np.empty(0, np.uint64)], 0
        for pairs in chain.from_iterable(map(bucket_pairs, self._bands)):
            held.append(pairs)
            count += len(pairs)
            if count > limit:
                held = [ascending(np.concatenate(held))]
                count = len(held[0])
                # What repeats has gone, so there may be room for more.
                if count > limit // 2:
                    yield held.pop()
                    count = 0
        yield ascending(np.concatenate([np.empty(0, np.uint64), *held]))

    def _alike(self, pairs: NDArray[np.uint64], least: float) -> NDArray[np.uint64]:
        """The pairs whose signatures agree in that share of their places."""
        places = np.zeros(len(pairs), np.uint8)
        for band in self._bands:
            keys = band.whole()
            for first in range(0, len(pairs), 1 << 16):
                some = slice(first, first + (1 << 16))
                earlier, later = _texts(pairs[some]).T
                places[some] += agreeing(keys[earlier], keys[later])
        return pairs[places >= least * BANDS * ROWS]

    def _offsets(self) -> NDArray[np.int64]:
        """[texts + 1] where the shingles of each text begin."""
        offsets = np.zeros(len(self) + 1, np.int64)
        np.cumsum(self._sizes.whole(), out=offsets[1:])
        return offsets

    def _jaccard(
        self, pairs: NDArray[np.uint32], offsets: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """[pairs] exact similarities."""
        texts = ascending(pairs.flatten())
        return jaccard(self._sets(texts, offsets), np.searchsorted(texts, pairs))

    def _sets(self, texts: NDArray[np.uint32], offsets: NDArray[np.int64]) -> Words:
        """The shingles of some texts; neighbours are read in one go."""
        gaps = np.flatnonzero(np.diff(texts) != 1)
        firsts, lasts = texts[np.append(0, gaps + 1)], texts[np.append(gaps, len(texts) - 1)]
        hashes = self._shingles.spans(offsets[firsts], offsets[lasts + 1])
        sizes = offsets[texts + 1] - offsets[texts]
        return Words(hashes, np.append(0, np.cumsum(sizes)))


def _texts(pairs: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """[pairs, 2] both texts of pairs of `buckets`, the earlier first."""
    return np.stack([pairs.astype(np.uint32), (pairs >> np.uint64(32)).astype(np.uint32)], 1)


def _one_of_each_first(pairs: NDArray[np.uint32]) -> Iterator[NDArray[np.uint32]]:
    """Parts of the pairs, which ascend by their later text: first one pair of each later text.

    In a group of many that are alike these say nearly all, and few others are wanted then.
    """
    first = np.append(True, pairs[1:, 1] != pairs[:-1, 1])
    for chosen in (pairs[first], pairs[~first]):
        yield from np.split(chosen, range(_PAIRS, len(chosen), _PAIRS))


def _of_few_shingles(
    pairs: NDArray[np.uint32], offsets: NDArray[np.int64]
) -> list[NDArray[np.uint32]]:
    """The pairs in parts of a quarter of a million shingles, or of one pair that has more."""
    if not len(pairs):
        return []
    total = np.cumsum((offsets[pairs + np.uint32(1)] - offsets[pairs]).sum(1))
    return np.split(pairs, np.flatnonzero(np.diff(total // _SHINGLES)) + 1)
