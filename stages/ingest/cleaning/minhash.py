"""MinHash signatures and locality-sensitive hashing over the word triples of texts.

The chance that two sets agree in one place of their signatures is their Jaccard similarity
(Broder 1997). Signatures are cut into bands; texts that agree in a whole band are candidates,
found with probability 1 - (1 - s**rows)**bands at similarity s.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stages.ingest.cleaning.words import Words, mix

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BANDS, ROWS = 20, 4
"""A pair at Jaccard 0.7 is a candidate with probability 0.996, at 0.8 with 0.99998."""
_CHUNK = 1 << 16
_PAIRS = 1 << 12
_SMALL_BUCKET = 16


def shingles(words: Words, size: int = 3) -> Words:
    """Every `size` words in a row; a text of fewer words is one shingle, one without words none.

    The hashes are uint32, which is enough to tell the shingles of two texts apart.
    """
    import numpy as np

    windows = words.windows(size)
    lengths = np.diff(words.offsets)
    short = (lengths > 0) & (lengths < size)
    counts = np.diff(windows.offsets) + short
    offsets = np.concatenate(([0], np.cumsum(counts)))
    joined = np.empty(offsets[-1], np.uint64)
    owners_short = np.repeat(short, counts)
    joined[~owners_short] = windows.hashes
    joined[owners_short] = _whole(words, np.flatnonzero(short), size)
    return Words((joined >> np.uint64(32)).astype(np.uint32), offsets)


def joined(parts: Sequence[Words]) -> Words:
    """The texts of all parts, one part after the other."""
    import numpy as np

    counts = [np.diff(part.offsets) for part in parts]
    hashes = [part.hashes for part in parts]
    if not parts:
        return Words(np.empty(0, np.uint32), np.zeros(1, np.int64))
    offsets = np.concatenate(([0], np.cumsum(np.concatenate(counts))))
    return Words(np.concatenate(hashes), offsets)


def _whole(words: Words, texts: "NDArray[np.int64]", size: int) -> "NDArray[np.uint64]":
    """One hash for all words of each of some short texts."""
    import numpy as np

    total = np.zeros(len(texts), np.uint64)
    for place in range(size - 1):
        at = words.offsets[texts] + place
        there = at < words.offsets[texts + 1]
        word = words.hashes[np.minimum(at, len(words.hashes) - 1)]
        total = np.where(there, mix(total * np.uint64(3) + word), total)
    return total


def signatures(sets: Words, permutations: int = BANDS * ROWS) -> "NDArray[np.uint32]":
    """[texts, permutations] least values of each set under random linear maps modulo 2**32.

    Sets of no elements have the greatest value everywhere; do not compare them.
    """
    import numpy as np

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


def candidates(
    found: "NDArray[np.uint32]", filled: "NDArray[np.int64]", bands: int = BANDS, rows: int = ROWS
) -> "NDArray[np.int64]":
    """[pairs, 2] texts that agree in a whole band, each pair once, the lower index first.

    `filled` are the texts to consider. In a bucket of many, each is paired with the first and
    with its neighbour, which keeps the number of pairs linear; another band pairs the others.
    """
    import numpy as np

    pairs = [np.empty(0, np.uint64)]
    for band in range(bands):
        keys = np.zeros(len(filled), np.uint64)
        for place in range(band * rows, (band + 1) * rows):
            keys = mix(keys + found[filled, place].astype(np.uint64))
        order = np.argsort(keys, kind="stable")
        pairs.append(_bucket_pairs(keys[order], filled[order]))
    joined = np.unique(np.concatenate(pairs))
    return np.stack([joined >> np.uint64(32), joined & np.uint64(0xFFFFFFFF)], 1).astype(np.int64)


def _bucket_pairs(keys: "NDArray[np.uint64]", texts: "NDArray[np.int64]") -> "NDArray[np.uint64]":
    """Pairs within runs of equal keys as `low << 32 | high`; texts ascend within a run."""
    import numpy as np

    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    sizes = np.diff(np.append(starts, len(keys)))
    bucket_start = np.repeat(starts, sizes)
    bucket_size = np.repeat(sizes, sizes)
    place = np.arange(len(keys))
    found = []
    for back in range(1, _SMALL_BUCKET):
        late = np.flatnonzero((place - bucket_start >= back) & (bucket_size <= _SMALL_BUCKET))
        if not len(late):
            break
        found.append((texts[late - back], texts[late]))
    large = np.flatnonzero((bucket_size > _SMALL_BUCKET) & (place > bucket_start))
    found += [(texts[bucket_start[large]], texts[large]), (texts[large - 1], texts[large])]
    low, high = (np.concatenate(side).astype(np.uint64) for side in zip(*found, strict=True))
    joined: NDArray[np.uint64] = (low << np.uint64(32)) | high
    return joined


def jaccard(sets: Words, pairs: "NDArray[np.int64]") -> "NDArray[np.float64]":
    """[pairs] exact Jaccard similarities of the sets of shingles."""
    import numpy as np

    if not len(pairs):
        return np.empty(0)
    texts, places = np.unique(pairs, return_inverse=True)
    distinct = _distinct(sets, texts)
    places = places.reshape(pairs.shape)
    chunks = range(0, len(pairs), _PAIRS)
    return np.concatenate([_jaccard_chunk(distinct, places[i : i + _PAIRS]) for i in chunks])


def _distinct(sets: Words, texts: "NDArray[np.int64]") -> Words:
    """The shingles of some texts, sorted, each once."""
    import numpy as np

    parts = []
    for first in range(0, len(texts), _PAIRS):
        some = texts[first : first + _PAIRS]
        members, owners = _members(sets, some)
        keys = np.unique((owners << np.uint64(32)) | members)
        sizes = np.bincount((keys >> np.uint64(32)).astype(np.int64), minlength=len(some))
        parts.append((keys.astype(np.uint32), sizes))
    hashes, counts = (np.concatenate(side) for side in zip(*parts, strict=True))
    return Words(hashes, np.concatenate(([0], np.cumsum(counts))))


def _jaccard_chunk(distinct: Words, pairs: "NDArray[np.int64]") -> "NDArray[np.float64]":
    import numpy as np

    left, right = (_members(distinct, pairs[:, side]) for side in (0, 1))
    # Two ascending runs: a stable sort is one merge of them.
    keys = [(owners << np.uint64(32)) | members for members, owners in (left, right)]
    both = np.sort(np.concatenate(keys), kind="stable")
    shared = both[1:][both[1:] == both[:-1]] >> np.uint64(32)
    intersection = np.bincount(shared.astype(np.int64), minlength=len(pairs))
    union = np.diff(distinct.offsets)[pairs].sum(1) - intersection
    alike: NDArray[np.float64] = intersection / np.maximum(union, 1)
    return alike


def _members(
    sets: Words, texts: "NDArray[np.int64]"
) -> tuple["NDArray[np.uint64]", "NDArray[np.uint64]"]:
    """The shingles of some texts, and the place in `texts` that each belongs to."""
    import numpy as np

    counts = np.diff(sets.offsets)[texts]
    before = np.repeat(np.cumsum(counts) - counts, counts)
    at = np.repeat(sets.offsets[texts], counts) + np.arange(counts.sum()) - before
    return sets.hashes[at].astype(np.uint64), np.repeat(np.arange(len(texts)), counts).astype(
        np.uint64
    )
