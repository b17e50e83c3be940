"""Pairs of texts in sorted runs on disk, read once and in order however many there are."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stages.ingest.near_duplicates.minhash import ascending
from stages.ingest.near_duplicates.scratch import Column

_TEXTS = 1 << 14


class PairRuns:
    """Pairs as numbers, the later text above the earlier, 32 bits each."""

    def __init__(self, column: Column, texts: int) -> None:
        """`column` takes the pairs; `texts` is how many texts there are."""
        self._column = column
        edges = np.append(np.arange(0, texts, _TEXTS, dtype=np.uint64), np.uint64(texts))
        self._edges = edges << np.uint64(32)
        self._cuts: list[NDArray[np.int64]] = []

    def append(self, pairs: NDArray[np.uint64]) -> None:
        """Take an ascending run."""
        self._cuts.append(len(self._column) + np.searchsorted(pairs, self._edges))
        self._column.append(pairs)

    def __iter__(self) -> Iterator[NDArray[np.uint64]]:
        """All pairs ascending, each once: those of some thousand later texts at a time."""
        cuts = np.stack(self._cuts, 1)
        for begins, ends in pairwise(cuts):
            if (ends > begins).any():
                yield ascending(self._column.spans(begins, ends))
