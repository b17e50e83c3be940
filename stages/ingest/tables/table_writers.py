"""The tables as they grow: rows in reading order, prompts and demonstrations listed once."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from schemas.errors import DataError
from schemas.parquet import ROW_GROUP, TableWriter
from schemas.tables import COMPARISONS, DEMONSTRATIONS, MESSAGES, PROMPTS, REJECTS, UNPAIRED, Table
from stages.ingest.frames.examples import RICH, Flags, those
from stages.ingest.frames.identities import arrow_keys
from stages.ingest.frames.seen import Seen
from stages.ingest.splits import ORDER
from stages.ingest.tables.assign_ids import count_reasons

_NO_MOVES = {
    f"{what}_moved_to_{split}": 0
    for what in ("prompts", "near_duplicates")
    for split in ("test", "dev")
}


class Tables:
    """Writes the four tables piece by piece, and a fifth where answers come without a counterpart.

    They are there whole or not at all; after a DataError there are the rejects until then.
    """

    def __init__(self, output: Path, shown: Seen | None = None, *, unpaired: bool = False) -> None:
        """`shown` are demonstrations in their own right, which comparisons need not show again."""
        self._makers: list[tuple[Table, Callable[[pl.DataFrame], pl.DataFrame]]] = [
            (PROMPTS, self._new_prompts),
            (DEMONSTRATIONS, self._new_demonstrations),
            (COMPARISONS, _comparisons),
            *([(UNPAIRED, _unpaired)] if unpaired else []),
        ]
        self._output = output
        self._shown = shown or Seen()
        self._prompts, self._demonstrations = Seen(), Seen()
        self._reasons: Counter[str] = Counter()
        self._numbers: Counter[str] = Counter()
        self._stack, self._rejects_stack = ExitStack(), ExitStack()

    def __enter__(self) -> "Tables":
        self._rejects = self._rejects_stack.enter_context(self._writer(REJECTS))
        self._groups = {
            table.name: _RowGroups(self._stack.enter_context(self._writer(table)), table)
            for table, _ in self._makers
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._stack.__exit__(kind, error, trace)
        finally:
            if isinstance(error, DataError):
                kind = error = trace = None
            self._rejects_stack.__exit__(kind, error, trace)

    def append(self, rows: pl.DataFrame, rejects: pa.Table) -> None:
        """Take a piece: rows as in `units.ROWS` with `source` and `file`, and what was rejected."""
        self._reasons.update(count_reasons(rejects))
        self._rejects.append(rejects)
        self._numbers["kept"] += len(rows)
        extra = pl.any_horizontal(
            pl.col(name).str.contains('"extra": "', literal=True) for name in RICH
        )
        self._numbers["rows_with_unread_keys"] += int(rows.select(extra.sum()).item() or 0)
        self._numbers["ties"] += int((rows["label"] == "Tie").sum())
        size = int(rows.estimated_size("b"))
        for table, new in self._makers:
            frame = new(rows)
            self._numbers[table.name] += len(frame)
            for split in ORDER:
                held = int((frame["split"] == split).sum())
                self._numbers[f"{table.name}/{split}"] += held
            self._groups[table.name].append(frame, size)

    def finish(self, rows_in: int, moved: Mapping[str, int] = _NO_MOVES) -> dict[str, int]:
        """Write the rest; returns the counts, in which each of `rows_in` rows is accounted for."""
        for group in self._groups.values():
            group.close()
        counts = self._counts(rows_in, moved)
        for writer in (self._rejects, *(group.writer for group in self._groups.values())):
            writer.counts = counts
        return counts

    def _writer(self, table: Table) -> TableWriter:
        return TableWriter(self._output / table.file_name, table)

    def _counts(self, rows_in: int, moved: Mapping[str, int]) -> dict[str, int]:
        kept, rejected = self._numbers["kept"], self._reasons.total()
        assert rows_in == kept + rejected, "rows were lost between reading and writing"
        return {
            "rows_in": rows_in,
            "rows_kept": kept,
            "rejects": rejected,
            **{f"rejects/{reason}": n for reason, n in sorted(self._reasons.items())},
            "ties": self._numbers["ties"],
            "rows_with_unread_keys": self._numbers["rows_with_unread_keys"],
            **moved,
            **{
                name: self._numbers[name]
                for table, _ in self._makers
                for name in (table.name, *(f"{table.name}/{split}" for split in ORDER))
            },
        }

    def _new_prompts(self, rows: pl.DataFrame) -> pl.DataFrame:
        new = first_sights(self._prompts, _ids(rows, "prompt_id"))
        return those(rows[_columns(PROMPTS)], new)

    def _new_demonstrations(self, rows: pl.DataFrame) -> pl.DataFrame:
        """What is shown in its own right, and preferred answers of train, each once."""
        own, train = pl.col("b").is_null(), pl.col("split") == "train"
        wanted = pl.col("demonstration_id").is_not_null() & (own | train)
        is_b = (pl.col("label") == "B").fill_null(False)
        preferred = {
            name: pl.when(is_b).then(name.replace("a", "b", 1)).otherwise(name)
            for name in ("a", "a_rich")
        }
        kept = [name for name in _columns(DEMONSTRATIONS) if name not in preferred]
        listed = rows.select(*kept, own=own, wanted=wanted, **preferred)
        shown = those(listed, listed["wanted"].to_numpy())
        ids = _ids(shown, "demonstration_id")
        known = self._shown.has(arrow_keys(ids)) & ~shown["own"].to_numpy()
        return those(shown, first_sights(self._demonstrations, ids) & ~known)


def _comparisons(rows: pl.DataFrame) -> pl.DataFrame:
    listed = rows[_columns(COMPARISONS)]
    return listed.drop_nulls("b") if listed["b"].null_count() else listed


def _unpaired(rows: pl.DataFrame) -> pl.DataFrame:
    rated = rows.filter(pl.col("unpaired_id").is_not_null())
    return rated.with_columns(desirable=pl.col("label") == "A")[_columns(UNPAIRED)]


class _RowGroups:
    """Rows of one table, made Arrow a whole row group at a time: no text is copied twice.

    Rows that are so large that a group would not fit into memory go sooner: the writer cuts its
    groups anew.
    """

    def __init__(self, writer: TableWriter, table: Table) -> None:
        self.writer = writer
        self._table = table
        self._columns = _columns(table)
        self._held: list[pl.DataFrame] = []
        self._rows = self._bytes = 0

    def append(self, rows: pl.DataFrame, piece: int) -> None:
        """Take rows of a piece of so many bytes, which they keep in memory however few they are;
        write what fills a row group.
        """
        if not len(rows):
            return
        self._held.append(rows[self._columns])
        self._rows += len(rows)
        self._bytes += piece
        while self._rows >= ROW_GROUP or (self._rows and self._bytes > _HELD_BYTES):
            self._write()

    def close(self) -> None:
        """Write the rest."""
        if self._rows:
            self._write()

    def _write(self) -> None:
        held = pl.concat(self._held)
        self._held = [rest] if len(rest := held.slice(ROW_GROUP)) else []
        self._rows = len(rest)
        self._bytes = sum(int(frame.estimated_size("b")) for frame in self._held)
        self.writer.append(_declared(self._table, held.head(ROW_GROUP)))


_HELD_BYTES = 32 << 20
_ANSWERS = {"completion": "a", "completion_a": "a", "completion_b": "b"}
_UNKNOWN = {"completion_a_id", "completion_b_id"}


def _columns(table: Table) -> list[str]:
    """The columns of rows that the table is made of."""
    names = [_ANSWERS.get(name, name) for name in table.schema.names if name not in _UNKNOWN]
    return [*names, *(f"{name}_rich" for name in names if f"{name}_rich" in RICH)]


def _declared(table: Table, rows: pl.DataFrame) -> pa.Table:
    """Rows as the table declares them."""
    data = rows.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    made: list[Any] = []
    for column in table.schema:
        if column.type == MESSAGES:
            made.append(_messages(data, _ANSWERS.get(column.name, column.name)))
        elif column.name in _UNKNOWN:
            made.append(pa.nulls(len(rows), column.type))
        else:
            made.append(data[column.name].cast(column.type))
    return pa.table(made, table.schema)


def _messages(data: pa.Table, name: str) -> pa.Array:
    """A column of conversations, or of answers; the few with more than texts one by one."""
    held = data[name].combine_chunks()
    plain = (held if name == "prompt" else _answers(held)).cast(MESSAGES)
    rich = data[f"{name}_rich"]
    if rich.null_count == data.num_rows:
        return plain
    turns = [
        json.loads(text) if text else said
        for text, said in zip(rich.to_pylist(), plain.to_pylist(), strict=True)
    ]
    return pa.array(turns, MESSAGES)


def _answers(texts: pa.Array) -> pa.Array:
    """Each text as a conversation of one assistant turn."""
    # Made of buffers: pa.array and pa.scalar import pandas to ask whether a value is its own.
    places = np.arange(len(texts) + 1, dtype=np.int32)
    letters = pa.py_buffer(b"assistant" * len(texts))
    role = pa.StringArray.from_buffers(len(texts), pa.py_buffer(9 * places), letters)
    turns = pa.StructArray.from_arrays([role, texts.cast(pa.string())], names=["role", "content"])
    bounds = pa.Array.from_buffers(pa.int32(), len(places), [None, pa.py_buffer(places)])
    return pa.ListArray.from_arrays(bounds, turns)


def _ids(rows: pl.DataFrame, name: str) -> pa.Array:
    return rows[name].to_arrow(compat_level=pl.CompatLevel.oldest())


def first_sights(seen: Seen, ids: pa.Array | pa.ChunkedArray) -> Flags:
    """Which ids come for the first time."""
    new: Flags = seen.add(arrow_keys(ids)) < 0
    return new
