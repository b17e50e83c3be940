"""From units to the declared tables: streamed, in reading order, each prompt listed once."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.parquet import TableWriter
from schemas.tables import COMPARISONS, DEMONSTRATIONS, PROMPTS, REJECTS, Table
from stages.ingest.admission import count_reasons
from stages.ingest.columnar.identities import arrow_keys
from stages.ingest.columnar.seen import Seen
from stages.ingest.units import Unit

_TABLES = (PROMPTS, DEMONSTRATIONS, COMPARISONS, REJECTS)
_SPLITS = ("train", "test")
Flags = NDArray[np.bool_]


def publish(units: Sequence[Unit], moved: set[str], output: Path) -> dict[str, int]:
    """Write the four tables; returns the counts, in which every row read is accounted for."""
    publisher = _Publisher(units, moved)
    with ExitStack() as stack:
        writers = {
            table.name: stack.enter_context(TableWriter(output / table.file_name, table))
            for table in _TABLES
        }
        for name, data in publisher.tables():
            writers[name].append(data)
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


class _Publisher:
    def __init__(self, units: Sequence[Unit], moved: set[str]) -> None:
        self._units = units
        self._moved = pa.array(sorted(moved), pa.string())
        self._prompts, self._demonstrations = Seen(), Seen()
        self._reasons: Counter[str] = Counter()
        self._numbers: Counter[str] = Counter()
        # Answers shown in their own right, which comparisons need not show again.
        self._shown = Seen()
        for unit in units:
            for rows in unit.batches("rows"):
                own = pc.and_(pc.is_null(rows["b"]), pc.is_valid(rows["demonstration_id"]))
                if pc.any(own).as_py():
                    _first(self._shown, rows.filter(own)["demonstration_id"])

    def tables(self) -> Iterator[tuple[str, pa.Table]]:
        """Pieces of all tables by their names."""
        for unit in self._units:
            for rows, rejects in unit.pieces():
                self._reasons.update(count_reasons(rejects))
                yield REJECTS.name, rejects
                rows = self._settled(_with_lineage(rows, unit))
                for table, data in (
                    (PROMPTS, self._new_prompts(rows)),
                    (DEMONSTRATIONS, self._new_demonstrations(rows)),
                    (COMPARISONS, _comparisons(rows)),
                ):
                    self._count(table, data)
                    yield table.name, data.select(table.schema.names)

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
            "prompts_moved_to_test": len(self._moved),
            **{
                name: self._numbers[name]
                for table in (PROMPTS, DEMONSTRATIONS, COMPARISONS)
                for name in (table.name, *(f"{table.name}/{split}" for split in _SPLITS))
            },
        }

    def _settled(self, rows: pa.Table) -> pa.Table:
        """Prompts that sources put in both splits are held out whole."""
        self._numbers["kept"] += rows.num_rows
        self._numbers["ties"] += pc.sum(pc.equal(rows["label"], "Tie")).as_py() or 0
        if not len(self._moved):
            return rows
        moved = pc.is_in(rows["prompt_id"], self._moved)
        split = pc.if_else(moved, "test", rows["split"])
        return rows.set_column(rows.schema.get_field_index("split"), "split", split)

    def _new_prompts(self, rows: pa.Table) -> pa.Table:
        return select_rows(rows, _first(self._prompts, rows["prompt_id"]))

    def _new_demonstrations(self, rows: pa.Table) -> pa.Table:
        """What is shown in its own right, and preferred answers of train, each once."""
        derived = pc.and_(pc.is_valid(rows["b"]), pc.equal(rows["split"], "train"))
        own = pc.is_null(rows["b"])
        wanted = pc.and_(pc.is_valid(rows["demonstration_id"]), pc.or_(own, derived))
        rows = select_rows(rows, _flags(wanted))
        ids = rows["demonstration_id"]
        new = _first(self._demonstrations, ids)
        new &= ~(_known(self._shown, ids) & _flags(pc.is_valid(rows["b"])))
        rows = select_rows(rows, new)
        preferred = pc.if_else(
            pc.fill_null(pc.equal(rows["label"], "B"), False), rows["b"], rows["a"]
        )
        return rows.append_column("completion", answers(preferred))

    def _count(self, table: Table, data: pa.Table) -> None:
        self._numbers[table.name] += data.num_rows
        for split in _SPLITS:
            held = pc.sum(pc.equal(data["split"], split)).as_py() or 0
            self._numbers[f"{table.name}/{split}"] += held


def _with_lineage(rows: pa.Table, unit: Unit) -> pa.Table:
    for name in ("source", "file"):
        value = getattr(unit.facts, name)
        rows = rows.append_column(name, pa.repeat(pa.scalar(value, pa.string()), rows.num_rows))
    return rows


def _comparisons(rows: pa.Table) -> pa.Table:
    rows = select_rows(rows, _flags(pc.is_valid(rows["b"])))
    nothing = pa.nulls(rows.num_rows, pa.string())
    return pa.table(
        {
            **{name: rows[name] for name in rows.column_names},
            "completion_a": answers(rows["a"]),
            "completion_b": answers(rows["b"]),
            "completion_a_id": nothing,
            "completion_b_id": nothing,
        }
    )


def answers(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Each text as a conversation of one assistant turn."""
    return pa.chunked_array(
        [_answers(chunk) for chunk in texts.chunks], COMPARISONS.schema.field("completion_a").type
    )


def _answers(texts: pa.Array) -> pa.Array:
    role = pa.repeat(pa.scalar("assistant", pa.string()), len(texts))
    turns = pa.StructArray.from_arrays([role, texts], names=["role", "content"])
    return pa.ListArray.from_arrays(pa.array(np.arange(len(texts) + 1, dtype=np.int32)), turns)


def select_rows(rows: pa.Table, keep: Flags) -> pa.Table:
    """Kept rows as slices of the table: most rows are kept, and a slice copies nothing."""
    if keep.all():
        return rows
    edges = np.flatnonzero(np.diff(keep, prepend=False, append=False))
    runs = edges.reshape(-1, 2).tolist()
    if not runs:
        return rows.slice(0, 0)
    return pa.concat_tables([rows.slice(start, end - start) for start, end in runs])


def _first(seen: Seen, ids: Any) -> Flags:
    """Which ids come for the first time."""
    keys = arrow_keys(ids)
    return seen.add(keys, np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int8)).new


def _known(seen: Seen, ids: Any) -> Flags:
    return seen.has(arrow_keys(ids))


def _flags(values: Any) -> Flags:
    flags: Flags = pc.fill_null(values, False).to_numpy()
    return flags
