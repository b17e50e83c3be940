"""Preferences in columns of texts or messages, read whole where nothing is in doubt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from stages.ingest.columnar.frames import EMPTY, comparisons_frame
from stages.ingest.examples import ROLES

# Python's str.strip takes these for white space, Rust's trim does not.
_DOUBTFUL = "[\x1c-\x1f]"
_MESSAGE_FIELDS = {"role", "content"}
Flags = NDArray[np.bool_]


def read_texts(rows: pl.DataFrame, prompt: str, chosen: str, rejected: str) -> pl.DataFrame:
    """The comparisons of three columns of text, where nothing is in doubt.

    `rows` has `row`, those columns, and `label`, `strength` and the like where a row states them.
    """
    names = (prompt, chosen, rejected)
    if any(rows.schema[name] != pl.String for name in names):
        return EMPTY
    message = pl.struct(role=pl.lit("user"), content=pl.col(prompt))
    clean = rows.filter(
        pl.all_horizontal(
            pl.col(name).is_not_null() & _says_something(pl.col(name)) for name in names
        )
        & (pl.col(chosen).str.strip_chars() != pl.col(rejected).str.strip_chars())
    )
    beside = [name for name in clean.columns if name in EMPTY.columns and name not in names]
    return comparisons_frame(
        clean.select(
            *beside,
            prompt=pl.concat_list(message),
            a=pl.col(chosen),
            b=pl.col(rejected),
        ),
        chosen_first=True,
    )


def _says_something(text: pl.Expr) -> pl.Expr:
    return (text.str.strip_chars() != "") & ~text.str.contains(_DOUBTFUL)


@dataclass(frozen=True)
class _Turns:
    """The turns of a column of conversations, one after the other, and where each begins."""

    flat: pl.DataFrame
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def none_in(self, flag: Flags, *, history: bool = False) -> Flags:
        """Conversations without a flagged turn; `history` leaves the last turn out."""
        counts = np.concatenate(([0], np.cumsum(flag)))
        ends = np.maximum(self.ends - 1, self.starts) if history else self.ends
        clear: Flags = counts[ends] == counts[self.starts]
        return clear


def read_conversations(rows: pl.DataFrame, stated: str | None = None) -> pl.DataFrame:
    """The comparisons of two columns of messages that differ in their last turn only.

    `rows` has `row`, `chosen` and `rejected`, and `label`, `strength` and the like where a row
    states them; `stated` is a column that must repeat what the user says in one turn, where it is
    not null. In doubt is everything that could be a defect.
    """
    if not all(_are_messages(rows.schema[name]) for name in ("chosen", "rejected")):
        return EMPTY
    if stated is not None and rows.schema.get(stated) != pl.String:
        stated = None  # only a text can disagree
    rows = rows.filter(*(pl.col(name).list.len() > 0 for name in ("chosen", "rejected")))
    if not len(rows):
        return EMPTY
    chosen, rejected = (_turns(rows[name]) for name in ("chosen", "rejected"))
    good = _readable(chosen) & _readable(rejected)
    good &= ~chosen.none_in(~_flags(chosen.flat["blank"]), history=True)
    if stated is not None:
        good &= _repeated(rows[stated], chosen)
    histories = [_histories(turns) for turns in (chosen, rejected)]
    good &= _flags(histories[0] == histories[1])
    last = [_last(turns) for turns in (chosen, rejected)]
    stripped = [side["content"].str.strip_chars() for side in last]
    good &= _flags((last[0]["role"] == "assistant") & (last[1]["role"] == "assistant"))
    good &= _flags((stripped[0] != "") & (stripped[1] != "") & (stripped[0] != stripped[1]))
    beside = [name for name in rows.columns if name in EMPTY.columns and name != "prompt"]
    frame = rows.select(
        *beside,
        prompt=pl.col("chosen").list.head(pl.col("chosen").list.len() - 1),
        a=last[0]["content"],
        b=last[1]["content"],
    ).filter(pl.Series(good))
    return comparisons_frame(
        frame.with_columns(pl.col("prompt").list.eval(_in_order(pl.element()))), chosen_first=True
    )


def _are_messages(dtype: pl.DataType) -> bool:
    return (
        isinstance(dtype, pl.List)
        and isinstance(dtype.inner, pl.Struct)
        and {f.name: f.dtype for f in dtype.inner.fields if f.name in _MESSAGE_FIELDS}
        == dict.fromkeys(_MESSAGE_FIELDS, pl.String)
    )


def _in_order(turn: pl.Expr) -> pl.Expr:
    return pl.struct(role=turn.struct.field("role"), content=turn.struct.field("content"))


def _turns(column: pl.Series) -> _Turns:
    flat = column.explode().struct.unnest().select("role", "content")
    flat = flat.with_columns(blank=pl.col("content").str.strip_chars() == "")
    ends = np.cumsum(column.list.len().to_numpy(), dtype=np.int64)
    return _Turns(flat, np.concatenate(([0], ends[:-1])), ends)


def _readable(turns: _Turns) -> Flags:
    """Conversations of known roles and ordinary text."""
    content, role = pl.col("content"), pl.col("role")
    bad = turns.flat.select(
        content.is_null() | content.str.contains(_DOUBTFUL) | ~role.is_in(ROLES, nulls_equal=True)
    ).to_series()
    return turns.none_in(_flags(bad.fill_null(True)))


def _repeated(stated: pl.Series, turns: _Turns) -> Flags:
    """Conversations in whose history the user says what `stated` says, or of which none is."""
    owner = np.repeat(np.arange(len(stated)), turns.ends - turns.starts)
    said = (turns.flat["content"] == stated.gather(owner)) & (turns.flat["role"] == "user")
    return ~turns.none_in(_flags(said.fill_null(False)), history=True) | _flags(stated.is_null())


def _histories(turns: _Turns) -> pl.Series:
    """All turns but the last as one text, the same for the same turns only."""
    flat = turns.flat.select(
        pl.concat_str(
            pl.col("role"),
            pl.lit(":"),
            pl.col("content").str.len_bytes().cast(pl.String),
            pl.lit(":"),
            pl.col("content"),
            ignore_nulls=True,
        )
    ).to_series()
    bounds = np.empty(2 * len(turns.starts) + 1, np.int64)
    bounds[0:-1:2], bounds[1:-1:2], bounds[-1] = turns.starts, turns.ends - 1, turns.ends[-1]
    return joined(flat, bounds).gather_every(2)


def joined(texts: pl.Series, bounds: Sequence[int] | NDArray[np.int64]) -> pl.Series:
    """The texts between neighbouring bounds, each stretch as one text; nothing is copied twice."""
    array = texts.to_arrow(compat_level=pl.CompatLevel.oldest())
    offsets = np.frombuffer(array.buffers()[1], np.int64)[
        array.offset : array.offset + len(array) + 1
    ]
    series = pl.from_arrow(
        pa.LargeStringArray.from_buffers(
            len(bounds) - 1, pa.py_buffer(offsets[np.asarray(bounds)]), array.buffers()[2]
        )
    )
    assert isinstance(series, pl.Series)
    return series


def _last(turns: _Turns) -> pl.DataFrame:
    return turns.flat[turns.ends - 1]


def _flags(series: pl.Series) -> Flags:
    flags: Flags = series.fill_null(False).to_numpy()
    return flags
