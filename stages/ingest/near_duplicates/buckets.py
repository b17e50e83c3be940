"""Candidate pairs of one band: the texts whose keys are equal.

A pair is one number, the later text above the earlier, 32 bits each: sorted, all pairs of a text
with those before it stand together.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stages.ingest.near_duplicates.scratch import Column
from stages.ingest.near_duplicates.words import mix

_SMALL_BUCKET = 16
_TEXTS = 1 << 17


def bucket_pairs(band: Column) -> Iterator[NDArray[np.uint64]]:
    """The pairs of texts with equal keys, part by part in no order; some may come twice.

    In a bucket of more than 16 each is paired with the first and with its neighbour, which keeps
    the number of pairs linear; another band pairs the others. Memory is 8 bytes a text, and what
    a hundred thousand texts, or the largest bucket, need.
    """
    bits = np.uint64(max(len(band) - 1, 1).bit_length())
    placed = _placed(band, bits)
    placed.sort()
    # Cut between values of the keys, so that no bucket is cut.
    parts = -(-len(band) // _TEXTS)
    edges = np.array([(part << 64) // parts for part in range(1, parts)], np.uint64)
    for part in np.split(placed, np.searchsorted(placed, edges >> bits << bits)):
        yield _part(part, bits)


def _placed(band: Column, bits: np.uint64) -> NDArray[np.uint64]:
    """Of each text its number in the lowest `bits`, and above it as much of its key as fits.

    Texts that agree in what fits alone are false candidates: one pair in 2**44 of a million texts.
    """
    placed = np.empty(len(band), np.uint64)
    for first, keys in band.blocks():
        texts = np.arange(first, first + len(keys), dtype=np.uint64)
        placed[first : first + len(keys)] = mix(keys) >> bits << bits | texts
    return placed


def _part(placed: NDArray[np.uint64], bits: np.uint64) -> NDArray[np.uint64]:
    keys, texts = placed >> bits, placed & ((np.uint64(1) << bits) - np.uint64(1))
    same = keys[1:] == keys[:-1]
    shared = np.append(same, False) | np.append(False, same)
    return _run_pairs(keys[shared], texts[shared]) if same.any() else np.empty(0, np.uint64)


def _run_pairs(keys: NDArray[np.uint64], texts: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Pairs within runs of equal keys; texts ascend within a run."""
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    sizes = np.diff(np.append(starts, len(keys)))
    bucket_start, bucket_size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    place = np.arange(len(keys)) - bucket_start
    found = []
    for back in range(1, _SMALL_BUCKET):
        late = np.flatnonzero((place >= back) & (bucket_size <= _SMALL_BUCKET))
        found.append(texts[late] << np.uint64(32) | texts[late - back])
        if not len(late):
            break
    large = np.flatnonzero((bucket_size > _SMALL_BUCKET) & (place > 0))
    for earlier in (bucket_start[large], large - 1):
        found.append(texts[large] << np.uint64(32) | texts[earlier])
    return np.concatenate(found)
