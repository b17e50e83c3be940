"""The rows to work on, one shard a row group: any shard can be read alone."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from schemas.files import is_sealed, remove, seal_file, seal_of, writing_file
from schemas.parquet import Splits, iter_batches
from schemas.tables import Table


class WorkFile:
    """A Parquet file of the rows of a declared table, in shards numbered from 0."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: Any = None

    def write(self, table: Table, shards: Iterable[pa.Table]) -> None:
        """Write the shards, each as one row group; the file is there whole or not at all."""
        with (
            writing_file(self.path) as temporary,
            pq.ParquetWriter(temporary, table.schema) as file,
        ):
            for shard in shards:
                file.write_table(shard, row_group_size=shard.num_rows)
        self._known = None
        seal_file(self.path)

    def remove(self) -> None:
        """Delete the file, where it is there: all that it asked for is done."""
        self._known = None
        remove(self.seal)
        remove(self.path)

    @property
    def seal(self) -> Path:
        """Holds the file's SHA-256."""
        return seal_of(self.path)

    @property
    def is_sound(self) -> bool:
        """Whether the file is there as it was written."""
        return is_sealed(self.path)

    def __len__(self) -> int:
        """How many shards there are."""
        return int(self._metadata.num_row_groups)

    def rows(self) -> int:
        """How many rows all shards have."""
        return int(self._metadata.num_rows)

    def read(self, shard: int) -> pa.Table:
        """The rows of one shard."""
        with pq.ParquetFile(self.path, metadata=self._metadata) as file:
            return file.read_row_group(shard)

    @property
    def _metadata(self) -> Any:
        """Where the shards lie, which is read once: it is as long as there are shards."""
        if self._known is None:
            self._known = pq.read_metadata(self.path)
        return self._known


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
    streamed. Any other is read once and dealt on the disk into stretches of `values_at_once`
    values, so that memory does not grow with it; rows of one value keep the order they have in the
    file.
    """
    opened = [("split", "in", list(splits))] if splits is not None else None
    held = pq.read_table(path, columns=[column], filters=opened)[column].combine_chunks()
    is_sorted = _is_sorted(held)
    if values is None and is_sorted:
        yield from iter_batches(path, table, splits=splits)
        return
    places = _Places(pc.unique(held) if values is None else values)
    del held
    read = iter_batches(path, table, splits=splits)
    batches = ((batch, places.of(batch[column])) for batch in read)
    if is_sorted:
        yield from (batch.filter(pa.array(at >= 0)) for batch, at in batches)
        return
    with TemporaryDirectory(prefix="prefline-sort-") as folder:
        size = max(values_at_once, -(-len(places) // _MOST_FILES))
        for stretch in _dealt(batches, size, Path(folder)):
            rows = _read(stretch)
            yield rows.take(pc.sort_indices(rows[column]))


class _Places:
    """Where values stand among others in ascending order; -1 for those that are not among them."""

    def __init__(self, values: pa.Array | pa.ChunkedArray) -> None:
        self._values = np.sort(_as_bytes(values))

    def __len__(self) -> int:
        return len(self._values)

    def of(self, column: pa.ChunkedArray) -> NDArray[np.int64]:
        """[rows] the places."""
        wanted = _as_bytes(column)
        if not len(self._values):
            return np.full(len(wanted), -1)
        places = np.searchsorted(self._values, wanted)
        found = self._values[np.minimum(places, len(self._values) - 1)] == wanted
        return np.where(found, places, -1)


def _as_bytes(values: pa.Array | pa.ChunkedArray) -> NDArray[np.bytes_]:
    return np.array([value.encode() for value in values.to_pylist()], dtype=np.bytes_)


def _dealt(
    batches: Iterable[tuple[pa.Table, NDArray[np.int64]]], size: int, folder: Path
) -> list[Path]:
    """Files of the rows of `size` values each, in the order of the values."""
    with ExitStack() as files:
        writers: dict[int, Any] = {}
        for rows, places in _together(batches):
            stretches = np.where(places >= 0, places // size, -1)
            for stretch in np.unique(stretches[stretches >= 0]).tolist():
                if stretch not in writers:
                    file = files.enter_context(pa.OSFile(str(folder / str(stretch)), "wb"))
                    stream = pa.ipc.new_stream(file, rows.schema)
                    writers[stretch] = files.enter_context(stream)
                writers[stretch].write_table(rows.filter(pa.array(stretches == stretch)))
    return [folder / str(stretch) for stretch in sorted(writers)]


_ROWS_TOGETHER = 1 << 16
_MOST_FILES = 256  # that are open at once


def _together(
    batches: Iterable[tuple[pa.Table, NDArray[np.int64]]],
) -> Iterator[tuple[pa.Table, NDArray[np.int64]]]:
    """Larger batches: what goes to one file is written in few pieces."""
    held: list[tuple[pa.Table, NDArray[np.int64]]] = []
    rows = 0
    for batch, places in batches:
        held.append((batch, places))
        rows += batch.num_rows
        if rows >= _ROWS_TOGETHER:
            yield pa.concat_tables([b for b, _ in held]), np.concatenate([p for _, p in held])
            held, rows = [], 0
    if held:
        yield pa.concat_tables([b for b, _ in held]), np.concatenate([p for _, p in held])


def _read(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        return stream.read_all()


def _is_sorted(values: pa.Array) -> bool:
    return len(values) < 2 or pc.all(pc.less_equal(values[:-1], values[1:])).as_py() is True
