"""Candidate pairs of a band against their definition."""

from itertools import combinations, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.ingest.near_duplicates import buckets
from stages.ingest.near_duplicates.scratch import Scratch


def pairs_of(keys: list[int]) -> list[tuple[int, int]]:
    with TemporaryDirectory() as folder, Scratch(Path(folder) / "scratch") as scratch:
        band = scratch.column("band", "u8")
        band.append(np.array(keys, np.uint64))
        found = [pair for part in buckets.bucket_pairs(band) for pair in part.tolist()]
    return [(pair & 0xFFFFFFFF, pair >> 32) for pair in found]


def plain_pairs(keys: list[int]) -> set[tuple[int, int]]:
    """All pairs of a small bucket; of a large one each with the first and with its neighbour."""
    found = set()
    for key in set(keys):
        texts = [text for text, own in enumerate(keys) if own == key]
        if len(texts) <= 16:
            found |= set(combinations(texts, 2))
        else:
            found |= {(texts[0], text) for text in texts[1:]}
            found |= set(pairwise(texts))
    return found


@given(st.lists(st.sampled_from([0, 1, 2, 2**63, 2**64 - 1]) | st.integers(0, 30), max_size=90))
def test_pairs_are_those_of_equal_keys(keys: list[int]) -> None:
    assert set(pairs_of(keys)) == plain_pairs(keys)


def test_no_bucket_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [text % 40 for text in range(500)] + [1000 + text for text in range(500)] + [7] * 30
    monkeypatch.setattr(buckets, "_TEXTS", 10)
    assert set(pairs_of(keys)) == plain_pairs(keys)
