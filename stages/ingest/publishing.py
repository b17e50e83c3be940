"""From units to the declared tables: streamed, in reading order, each prompt listed once."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.parquet import ROW_GROUP, TableWriter
from schemas.tables import COMPARISONS, DEMONSTRATIONS, PROMPTS, REJECTS, Table
from stages.ingest.admission import count_reasons, reject_rows
from stages.ingest.columnar.identities import arrow_keys
from stages.ingest.columnar.seen import Seen
from stages.ingest.examples import RowError
from stages.ingest.reading import Piece
from stages.ingest.sources import Source
from stages.ingest.units import Unit

_ROW_TABLES = (PROMPTS, DEMONSTRATIONS, COMPARISONS)
_TABLES = (*_ROW_TABLES, REJECTS)
_SPLITS = ("train", "test")
Flags = NDArray[np.bool_]


Late = Callable[[Unit, pa.Table], Sequence[tuple[int, RowError]]]
"""What is only known when all has been read: which rows of a piece of a unit must go, by their
index in the piece, and why.
"""


def publish(
    units: Sequence[Unit],
    sources: Sequence[Source],
    moved: set[str],
    output: Path,
    late: Late = lambda unit, rows: (),
    held_out: Collection[str] = (),
) -> dict[str, int]:
    """Write the four tables; returns the counts, in which every row read is accounted for.

    `sources` are those of the units, one each: rows that go late are read there once more, so
    that they stand among the rejects as they were written. `held_out` are prompts that join the
    test split because of what else was read.
    """
    publisher = _Publisher(units, sources, moved, late, held_out)
    with ExitStack() as stack:
        writers = {
            table.name: stack.enter_context(TableWriter(output / table.file_name, table))
            for table in _TABLES
        }
        groups = {table.name: _RowGroups(writers[table.name], table) for table in _ROW_TABLES}
        for rows, rejects in publisher.pieces():
            writers[REJECTS.name].append(rejects)
            for name, frame in publisher.tables(rows):
                groups[name].append(frame)
        for group in groups.values():
            group.close()
        counts = publisher.counts()
        for writer in writers.values():
            writer.counts = counts
    return counts


def publish_rejects(units: Sequence[Unit], output: Path) -> None:
    """Write what was rejected, when there is nothing else to write."""
    with TableWriter(output / REJECTS.file_name, REJECTS) as writer:
        for unit in units:
            for rejects in unit.batches("rejects"):
                writer.append(rejects)


class _Rereader:
    """Rows of a source as they were written, asked for in ascending order."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._pieces: Iterator[Piece] | None = None
        self._piece: Piece | None = None

    def row(self, row: int) -> str:
        """One row."""
        if self._pieces is None:
            self._pieces = self.source.pieces()
        while self._piece is None or self._piece.next_row <= row:
            self._piece = next(self._pieces)
        return self._piece.raw(row)


class _Publisher:
    def __init__(
        self,
        units: Sequence[Unit],
        sources: Sequence[Source],
        moved: set[str],
        late: Late,
        held_out: Collection[str],
    ) -> None:
        self._units = units
        self._sources = sources
        self._late = late
        self._moved = sorted(moved.union(held_out))
        self._moved_counts = {
            "prompts_moved_to_test": len(moved),
            "near_duplicates_moved_to_test": len(set(held_out) - moved),
        }
        self._prompts, self._demonstrations = Seen(), Seen()
        self._reasons: Counter[str] = Counter()
        self._numbers: Counter[str] = Counter()
        # Answers shown in their own right, which comparisons need not show again.
        self._shown = Seen()
        for unit in units:
            for rows in unit.batches("rows"):
                own = pc.and_(pc.is_null(rows["b"]), pc.is_valid(rows["demonstration_id"]))
                if pc.any(own).as_py():
                    _first(self._shown, rows["demonstration_id"].filter(own))

    def pieces(self) -> Iterator[tuple[pl.DataFrame, pa.Table]]:
        """Rows that stay, and rejects, in the order they were read."""
        for unit, source in zip(self._units, self._sources, strict=True):
            raw = _Rereader(source)
            for rows, rejects in unit.pieces():
                rows, rejects = self._without_late(unit, rows, rejects, raw)
                self._reasons.update(count_reasons(rejects))
                yield self._settled(_with_lineage(rows, unit)), rejects

    def tables(self, rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
        """What the tables take of these rows, by name."""
        for table, frame in (
            (PROMPTS, self._new_prompts(rows)),
            (DEMONSTRATIONS, self._new_demonstrations(rows)),
            (COMPARISONS, rows.filter(pl.col("b").is_not_null())),
        ):
            self._numbers[table.name] += len(frame)
            for split in _SPLITS:
                held = int((frame["split"] == split).sum())
                self._numbers[f"{table.name}/{split}"] += held
            yield table.name, frame

    def _without_late(
        self, unit: Unit, rows: pa.Table, rejects: pa.Table, raw: "_Rereader"
    ) -> tuple[pa.Table, pa.Table]:
        dropped = self._late(unit, rows)
        if not dropped:
            return rows, rejects
        keep = np.ones(rows.num_rows, bool)
        keep[[index for index, _ in dropped]] = False
        numbers = rows["row"].to_numpy()
        errors = sorted(((int(numbers[i]), error) for i, error in dropped), key=lambda e: e[0])
        both = pa.concat_tables([rejects, reject_rows(raw.source, raw.row, errors)])
        order = np.argsort(both["row"].to_numpy(), kind="stable")
        return rows.filter(keep), both.take(order)

    def counts(self) -> dict[str, int]:
        """Rows read, kept and rejected by reason; the size of each table and of its splits."""
        rows_in = sum(unit.facts.rows_in for unit in self._units)
        kept, rejected = self._numbers["kept"], self._reasons.total()
        assert rows_in == kept + rejected, "rows were lost between reading and writing"
        return {
            "rows_in": rows_in,
            "rows_kept": kept,
            "rejects": rejected,
            **{f"rejects/{reason}": n for reason, n in sorted(self._reasons.items())},
            "ties": self._numbers["ties"],
            **self._moved_counts,
            **{
                name: self._numbers[name]
                for table in _ROW_TABLES
                for name in (table.name, *(f"{table.name}/{split}" for split in _SPLITS))
            },
        }

    def _settled(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Prompts that sources put in both splits are held out whole."""
        self._numbers["kept"] += len(rows)
        self._numbers["ties"] += int((rows["label"] == "Tie").sum())
        if not self._moved:
            return rows
        moved = pl.col("prompt_id").is_in(self._moved)
        split = pl.when(moved).then(pl.lit("test")).otherwise("split")
        return rows.with_columns(split=split)

    def _new_prompts(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.filter(pl.Series(_first(self._prompts, _ids(rows, "prompt_id"))))

    def _new_demonstrations(self, rows: pl.DataFrame) -> pl.DataFrame:
        """What is shown in its own right, and preferred answers of train, each once."""
        own, train = pl.col("b").is_null(), pl.col("split") == "train"
        shown = rows.filter(pl.col("demonstration_id").is_not_null() & (own | train))
        ids = _ids(shown, "demonstration_id")
        known = pl.Series(self._shown.has(arrow_keys(ids)), dtype=pl.Boolean)
        new = pl.Series(_first(self._demonstrations, ids), dtype=pl.Boolean)
        preferred = pl.when((pl.col("label") == "B").fill_null(False)).then("b").otherwise("a")
        return shown.with_columns(a=preferred).filter(new & (own | ~known))


class _RowGroups:
    """Rows of one table, made Arrow a whole row group at a time: no text is copied twice."""

    def __init__(self, writer: TableWriter, table: Table) -> None:
        self._writer, self._table = writer, table
        self._held: list[pl.DataFrame] = []
        self._rows = 0

    def append(self, rows: pl.DataFrame) -> None:
        """Take rows; write what fills a row group."""
        self._held.append(rows)
        self._rows += len(rows)
        while self._rows >= ROW_GROUP:
            self._write()

    def close(self) -> None:
        """Write the rest."""
        if self._rows:
            self._write()

    def _write(self) -> None:
        held = pl.concat(self._held)
        self._held = [rest] if len(rest := held.slice(ROW_GROUP)) else []
        self._rows = len(rest)
        self._writer.append(_declared(self._table, held.head(ROW_GROUP)))


def _declared(table: Table, rows: pl.DataFrame) -> pa.Table:
    """Rows of units as the table declares them."""
    texts = {"completion": "a", "completion_a": "a", "completion_b": "b"}
    nothing = {"completion_a_id", "completion_b_id"}
    plain = [name for name in table.schema.names if name not in texts and name not in nothing]
    sides = [texts[name] for name in table.schema.names if name in texts]
    data = rows.select(*plain, *sides).rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    made: dict[str, Any] = {name: data[name] for name in plain}
    for column in table.schema:
        if column.name in texts:
            made[column.name] = _answers(data[texts[column.name]].combine_chunks())
        elif column.name in nothing:
            made[column.name] = pa.nulls(len(rows), column.type)
    return pa.table([made[column.name].cast(column.type) for column in table.schema], table.schema)


def _answers(texts: pa.Array) -> pa.Array:
    """Each text as a conversation of one assistant turn."""
    role = pa.repeat(pa.scalar("assistant", pa.string()), len(texts))
    turns = pa.StructArray.from_arrays([role, texts.cast(pa.string())], names=["role", "content"])
    return pa.ListArray.from_arrays(pa.array(np.arange(len(texts) + 1, dtype=np.int32)), turns)


def _with_lineage(rows: pa.Table, unit: Unit) -> pl.DataFrame:
    frame = pl.DataFrame(pl.from_arrow(rows))
    return frame.with_columns(source=pl.lit(unit.facts.source), file=pl.lit(unit.facts.file))


def _ids(rows: pl.DataFrame, name: str) -> pa.Array:
    return rows[name].to_arrow(compat_level=pl.CompatLevel.oldest())


def _first(seen: Seen, ids: pa.Array | pa.ChunkedArray) -> Flags:
    """Which ids come for the first time."""
    keys = arrow_keys(ids)
    return seen.add(keys, np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int8)).new
