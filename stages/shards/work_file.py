"""The rows to work on, one shard a row group: any shard can be read alone."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.files import write_text, writing_file
from schemas.ids import file_sha256
from schemas.parquet import Splits, iter_batches
from schemas.tables import Table


class WorkFile:
    """A Parquet file of the rows of a declared table, in shards numbered from 0."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, table: Table, shards: Iterable[pa.Table]) -> None:
        """Write the shards, each as one row group; the file is there whole or not at all."""
        with (
            writing_file(self.path) as temporary,
            pq.ParquetWriter(temporary, table.schema) as file,
        ):
            for shard in shards:
                file.write_table(shard, row_group_size=shard.num_rows)
        write_text(self.seal, file_sha256(self.path))

    @property
    def seal(self) -> Path:
        """Holds the file's SHA-256."""
        return self.path.with_name(f"{self.path.name}.sha256")

    @property
    def is_sound(self) -> bool:
        """Whether the file is there as it was written."""
        if not (self.path.is_file() and self.seal.is_file()):
            return False
        return self.seal.read_bytes() == file_sha256(self.path).encode()

    def __len__(self) -> int:
        """How many shards there are."""
        return int(pq.read_metadata(self.path).num_row_groups)

    def rows(self) -> int:
        """How many rows all shards have."""
        return int(pq.read_metadata(self.path).num_rows)

    def read(self, shard: int) -> pa.Table:
        """The rows of one shard."""
        with pq.ParquetFile(self.path) as file:
            return file.read_row_group(shard)


def in_shards(batches: Iterable[pa.Table], group: str, groups_per_shard: int) -> Iterator[pa.Table]:
    """Cut a stream of rows into shards of `groups_per_shard` groups each, the last one smaller.

    A group is a run of rows with one value of the column `group`; it is never torn, so at most one
    shard and one batch are in memory.
    """
    rest: pa.Table | None = None
    for batch in batches:
        rows = batch if rest is None else pa.concat_tables([rest, batch])
        starts = _starts(rows[group])
        # The last group may go on in the next batch.
        while len(starts) > groups_per_shard:
            end = starts[groups_per_shard]
            yield rows.slice(0, end)
            rows = rows.slice(end)
            starts = [start - end for start in starts[groups_per_shard:]]
        rest = rows
    if rest is not None and rest.num_rows:
        yield rest


def _starts(column: pa.ChunkedArray) -> list[int]:
    values = column.to_pylist()
    return [i for i, value in enumerate(values) if i == 0 or value != values[i - 1]]


def sorted_rows(
    path: Path,
    table: Table,
    column: str,
    values: pa.ChunkedArray | None = None,
    values_at_once: int = 12_000,
    splits: Splits = None,
) -> Iterator[pa.Table]:
    """The rows of a declared table, or those that have one of `values` in `column`, sorted by it.

    Rows of other splits than `splits` are passed over. A file that is sorted by it already is
    streamed. Any other is read once for every `values_at_once` values, so that memory does not
    grow with it; rows of one value keep the order they have in the file.
    """
    opened = [("split", "in", list(splits))] if splits is not None else None
    held = pq.read_table(path, columns=[column], filters=opened)[column].combine_chunks()
    if _is_sorted(held):
        yield from _among(path, table, column, values, splits)
        return
    values = pa.chunked_array([pc.unique(held)]) if values is None else values
    values = values.take(pc.sort_indices(values))
    for start in range(0, len(values), values_at_once):
        part = values.slice(start, values_at_once)
        rows = pa.concat_tables(_among(path, table, column, part, splits))
        yield rows.take(pc.sort_indices(rows[column]))


def _among(
    path: Path, table: Table, column: str, values: pa.ChunkedArray | None, splits: Splits
) -> Iterator[pa.Table]:
    for batch in iter_batches(path, table, splits=splits):
        yield batch if values is None else batch.filter(pc.is_in(batch[column], values))


def _is_sorted(values: pa.Array) -> bool:
    return len(values) < 2 or pc.all(pc.less_equal(values[:-1], values[1:])).as_py() is True
