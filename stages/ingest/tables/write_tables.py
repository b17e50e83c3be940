"""From units to the tables, once everything has been read and decided."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.parquet import TableWriter
from schemas.tables import REJECTS
from stages.ingest.examples import RowError
from stages.ingest.frames.seen import Seen
from stages.ingest.near_duplicates.keys import NO_KEYS, id_keys, places_among
from stages.ingest.readers.pieces import Piece
from stages.ingest.readers.sources import Source
from stages.ingest.tables.assign_ids import reject_rows
from stages.ingest.tables.row_cache import Unit
from stages.ingest.tables.table_writers import Tables, first_sights

Late = Callable[[Unit, pa.Table], Sequence[tuple[int, RowError]]]
"""What is only known when all has been read: which rows of a piece of a unit must go, by their
index in the piece, and why.
"""


def publish(
    units: Sequence[Unit],
    sources: Sequence[Source],
    moved: Mapping[str, str],
    output: Path,
    late: Late = lambda unit, rows: (),
    joins: Mapping[str, NDArray[np.bytes_]] = {},
    *,
    unpaired: bool = False,
) -> dict[str, int]:
    """Write the four tables; returns the counts, in which every row read is accounted for.

    `sources` are those of the units, one each: rows that go late are read there once more, so
    that they stand among the rejects as they were written. `moved` says by id of prompts in
    several splits where they belong; `joins` are by split the keys of prompts that join it because
    of what else was read; `unpaired` asks for the table of answers without a counterpart.
    """
    own = {split: [id_ for id_, to in moved.items() if to == split] for split in ("dev", "test")}
    target = {
        split: np.sort(np.concatenate((id_keys(ids), joins.get(split, NO_KEYS))))
        for split, ids in own.items()
    }
    with Tables(output, _shown(units), unpaired=unpaired) as tables:
        for unit, source in zip(units, sources, strict=True):
            raw = _Rereader(source)
            for rows, rejects in unit.pieces():
                rows, rejects = _without_late(late(unit, rows), rows, rejects, raw)
                tables.append(_settled(rows, unit, target), rejects)
        moves = {
            **{f"prompts_moved_to_{split}": len(ids) for split, ids in own.items()},
            **{
                f"near_duplicates_moved_to_{split}": len(joins.get(split, NO_KEYS)) for split in own
            },
        }
        return tables.finish(sum(unit.facts.rows_in for unit in units), moves)


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


def _shown(units: Sequence[Unit]) -> Seen:
    """The demonstrations that are shown in their own right."""
    shown = Seen()
    for rows in (rows for unit in units for rows in unit.batches("rows")):
        own = pc.and_(pc.is_null(rows["b"]), pc.is_valid(rows["demonstration_id"]))
        if pc.any(own).as_py():
            first_sights(shown, rows["demonstration_id"].filter(own))
    return shown


def _without_late(
    dropped: Sequence[tuple[int, RowError]], rows: pa.Table, rejects: pa.Table, raw: _Rereader
) -> tuple[pa.Table, pa.Table]:
    if not dropped:
        return rows, rejects
    keep = np.ones(rows.num_rows, bool)
    keep[[index for index, _ in dropped]] = False
    numbers = rows["row"].to_numpy()
    errors = sorted(((int(numbers[i]), error) for i, error in dropped), key=lambda e: e[0])
    both = pa.concat_tables([rejects, reject_rows(raw.source, raw.row, errors)])
    order = np.argsort(both["row"].to_numpy(), kind="stable")
    return rows.filter(keep), both.take(order)


def _settled(rows: pa.Table, unit: Unit, target: Mapping[str, NDArray[np.bytes_]]) -> pl.DataFrame:
    """Rows with their lineage; those of prompts whose keys `target` has are of that split."""
    frame = pl.DataFrame(pl.from_arrow(rows)).with_columns(
        source=pl.lit(unit.facts.source), file=pl.lit(unit.facts.file)
    )
    for split, keys in target.items():  # test last: it is the stricter one
        if len(keys):
            joins = pl.Series(places_among(keys, id_keys(frame["prompt_id"])) >= 0)
            here = pl.when(joins).then(pl.lit(split)).otherwise("split")
            frame = frame.with_columns(split=here)
    return frame
