"""Texts as stretches of one buffer: they can be cut and compared before any of them is made."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

Places = NDArray[np.int64]
DOUBTFUL = "[\x1c-\x1f]"
"""Python's str.strip takes these for white space, Rust's trim does not."""
_ESCAPES = {json.dumps(text)[1:-1]: text for text in '\n"\\\t\r\b\f'} | {"\\/": "/"}


@dataclass(frozen=True)
class Texts:
    """[n] texts: the bytes of `data` from `starts` to `ends`, in ascending order.

    `escaped` texts are as JSON writes them, with no escapes but those of two bytes. `breaks` are
    the places of all line feeds in `data`, or of the escapes that stand for them.
    """

    data: Any  # whatever has a buffer
    starts: Places
    ends: Places
    breaks: Places
    escaped: bool

    def __len__(self) -> int:
        return len(self.starts)

    def between(self, starts: Places, ends: Places) -> "Texts":
        """Other stretches of the same buffer."""
        return replace(self, starts=starts, ends=ends)

    def raw(self) -> pl.Series:
        """[n] the bytes, not copied."""
        bounds = np.stack([self.starts, self.ends], 1).reshape(-1)
        if not len(bounds):
            return pl.Series([], dtype=pl.Binary)
        array = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(),
            len(bounds) - 1,
            [None, pa.py_buffer(bounds), pa.py_buffer(self.data)],
        )
        # Every other stretch is what lies between two texts.
        return pl.Series(pl.from_arrow(array)).gather_every(2)

    def plain(self) -> pl.Series:
        """[n] the texts, null where one is not UTF-8."""
        texts = _decoded(self.raw())
        if not self.escaped:
            return texts
        # One pass from left to right: what an escaped backslash is followed by is no escape.
        return texts.str.replace_many(list(_ESCAPES), list(_ESCAPES.values()), leftmost=True)


def _decoded(values: pl.Series) -> pl.Series:
    try:
        return values.cast(pl.String)
    except pl.exceptions.ComputeError:  # one value that is not UTF-8 fails them all
        return pl.Series([_text(value) for value in values], dtype=pl.String)


def _text(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def texts_of(column: pl.Series) -> Texts:
    """The texts of a column of strings, null or not; nulls are empty."""
    array = column.to_arrow(compat_level=pl.CompatLevel.oldest())
    # Whoever looks for something at the end of the last text may look a few bytes further.
    data = bytes(array.buffers()[2] or b"") + bytes(8)
    bounds = np.frombuffer(array.buffers()[1], np.int64)[array.offset :][: len(array) + 1]
    breaks = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    return Texts(data, bounds[:-1], bounds[1:], breaks, escaped=False)


def plain_frame(rows: Places, columns: Mapping[str, Texts]) -> pl.DataFrame:
    """`row` and the texts as columns, without the rows that hold one that is not UTF-8."""
    texts = {name: column.plain() for name, column in columns.items()}
    return pl.DataFrame({"row": rows, **texts}).drop_nulls()


def joined(texts: pl.Series, ends: Places) -> pl.Series:
    """The texts up to each end as one text; nothing is copied twice."""
    array = texts.to_arrow(compat_level=pl.CompatLevel.oldest())
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset :][: len(array) + 1]
    bounds = pa.py_buffer(offsets[np.concatenate(([0], ends))])
    whole = pa.LargeStringArray.from_buffers(len(ends), bounds, array.buffers()[2])
    return pl.Series(pl.from_arrow(whole))
