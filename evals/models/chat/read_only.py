"""Tokens of a completion that are read and not scored: what others say between its turns.

A token t that is only read is kept as ~t, below zero, so that a completion stays one list of
integers in files, caches and packs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


def with_read_only(ids: Sequence[int], scored: Sequence[bool]) -> list[int]:
    """Ids with those that are not scored below zero; none is where `scored` is empty."""
    if not scored:
        return list(ids)
    return [i if counts else ~i for i, counts in zip(ids, scored, strict=True)]


def plain(ids: Sequence[int]) -> Ids:
    """The ids as a model reads them."""
    array = np.asarray(ids, dtype=np.int64)
    return np.where(array < 0, ~array, array)


def scored(ids: Sequence[int]) -> int:
    """How many of the ids are scored."""
    return int((np.asarray(ids) >= 0).sum())
