"""MinHash signatures and locality-sensitive hashing over the word triples of texts.

The chance that two sets agree in one place of their signatures is their Jaccard similarity
(Broder 1997). Signatures are cut into bands; texts that agree in a whole band are candidates,
found with probability 1 - (1 - s**rows)**bands at similarity s. Sixteen bits of each place are
kept, so that a band is one number of 64 bits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.ingest.near_duplicates.words import Words, mix

BANDS, ROWS = 20, 4
"""A pair at Jaccard 0.7 is a candidate with probability 0.996, at 0.8 with 0.99998."""
_CHUNK = 1 << 16
_SPREAD = 0x9E3779B1


def shingles(words: Words, size: int = 3) -> Words:
    """The sets of every `size` words in a row: ascending hashes (uint32), each once a text.

    A text of fewer words is one shingle, one without words none. 32 bits are enough to tell the
    shingles of two texts apart.
    """
    windows = words.windows(size)
    lengths = np.diff(words.offsets)
    short = (lengths > 0) & (lengths < size)
    counts = np.diff(windows.offsets) + short
    owners_short = np.repeat(short, counts)
    joined = np.empty(len(owners_short), np.uint64)
    joined[~owners_short] = windows.hashes
    joined[owners_short] = _whole(words, np.flatnonzero(short), size)
    owners = np.repeat(np.arange(len(counts), dtype=np.uint64) << np.uint64(32), counts)
    owned = ascending(owners | joined >> np.uint64(32))
    sizes = np.bincount((owned >> np.uint64(32)).astype(np.int64), minlength=len(counts))
    return Words(owned.astype(np.uint32), np.concatenate(([0], np.cumsum(sizes))))


def ascending(values: NDArray[Any]) -> NDArray[Any]:
    """The values in order, each once; `values` is sorted in place."""
    # np.unique would make a hash table of some 50 bytes a value.
    values.sort()
    first = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    once: NDArray[Any] = values[first]
    return once


def _whole(words: Words, texts: NDArray[np.int64], size: int) -> NDArray[np.uint64]:
    """One hash for all words of each of some short texts."""
    total = np.zeros(len(texts), np.uint64)
    for place in range(size - 1):
        at = words.offsets[texts] + place
        there = at < words.offsets[texts + 1]
        word = words.hashes[np.minimum(at, len(words.hashes) - 1)]
        total = np.where(there, mix(total * np.uint64(3) + word), total)
    return total


def signatures(sets: Words, permutations: int = BANDS * ROWS) -> NDArray[np.uint32]:
    """[texts, permutations] least values of each set under random linear maps modulo 2**32.

    Sets of no elements have the greatest value everywhere; do not compare them.
    """
    draw = np.random.Generator(np.random.PCG64(20_240_817))
    factors = draw.integers(0, 1 << 32, permutations, np.uint32) | np.uint32(1)
    shifts = draw.integers(0, 1 << 32, permutations, np.uint32)
    found = np.full((len(sets), permutations), 0xFFFFFFFF, np.uint32)
    filled = np.flatnonzero(np.diff(sets.offsets) > 0)
    starts = sets.offsets[filled]
    first = 0
    while first < len(filled):
        # Whole texts, about _CHUNK elements: what is worked on stays in the cache.
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + _CHUNK)))
        begin, end = starts[first], sets.offsets[filled[last - 1] + 1]
        values = sets.hashes[begin:end]
        cuts = starts[first:last] - begin
        rows = np.empty((permutations, last - first), np.uint32)
        for place in range(permutations):
            np.minimum.reduceat(values * factors[place] + shifts[place], cuts, out=rows[place])
        found[filled[first:last]] = rows.T
        first = last
    return found


def band_columns(found: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """[texts, bands] the signatures [texts, bands * 4], 16 bits of each place."""
    # The factor brings all bits of a least value, which is small, to bear on the 16 that stay.
    low = ((found * np.uint32(_SPREAD)) >> np.uint32(16)).astype(np.uint16)
    columns: NDArray[np.uint64] = np.ascontiguousarray(low).view(np.uint64)
    return columns


def agreeing(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """[pairs] in how many places of one band two texts agree."""
    differ = left ^ right
    places = np.uint64(0x7FFF7FFF7FFF7FFF)
    # The top bit of each sixteen is set where any of them is.
    differ = ((differ & places) + places | differ) & ~places
    equal: NDArray[np.uint8] = np.uint8(ROWS) - np.bitwise_count(differ)
    return equal


def jaccard(sets: Words, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """[pairs] exact Jaccard similarities of two `shingles` each; memory is 32 bytes a shingle."""
    left, right = (_members(sets, pairs[:, side]) for side in (0, 1))
    # Two ascending runs: a stable sort is one merge of them.
    both = np.sort(np.concatenate((left, right)), kind="stable")
    shared = both[1:][both[1:] == both[:-1]] >> np.uint64(32)
    intersection = np.bincount(shared.astype(np.int64), minlength=len(pairs))
    union = np.diff(sets.offsets)[pairs].sum(1) - intersection
    alike: NDArray[np.float64] = intersection / np.maximum(union, 1)
    return alike


def _members(sets: Words, texts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The shingles of some texts, each below the place in `texts` that it belongs to."""
    counts = np.diff(sets.offsets)[texts]
    before = np.repeat(np.cumsum(counts) - counts, counts)
    at = np.repeat(sets.offsets[texts], counts) + np.arange(counts.sum()) - before
    owners = np.repeat(np.arange(len(texts), dtype=np.uint64) << np.uint64(32), counts)
    owned: NDArray[np.uint64] = owners | sets.hashes[at]
    return owned
