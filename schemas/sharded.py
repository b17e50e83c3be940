"""Tables that grow by finished shards."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.files import remove
from schemas.parquet import write_table
from schemas.tables import Table
from schemas.validation import Rows


class ShardedTable:
    """A table that grows by finished shards, so that a killed stage continues where it was.

    Shards are small Parquet files in `<directory>/<table>.shards/`, written atomically; `merge`
    makes the table of them, sorted by `sort_by`, and removes them.
    """

    def __init__(self, directory: Path, table: Table, name: str | None = None) -> None:
        """`name` is the file's stem where a stage writes several files of one table."""
        self.table = table
        self.path = directory / f"{name or table.name}.parquet"
        self.folder = directory / f"{name or table.name}.shards"
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._undo_merge()
        for shard in self.shards():
            if not _is_sound(shard):
                remove(shard)
        self._next = max((int(shard.stem) + 1 for shard in self.shards()), default=0)

    def _undo_merge(self) -> None:
        """Make the whole table the first shard again: `merge` was killed, or its stage after it."""
        for shard in self.shards():
            shard.unlink()
        os.replace(self.path, self.folder / f"{0:08d}.parquet")

    def shards(self) -> list[Path]:
        """The finished shards, in the order they were written."""
        return sorted(self.folder.glob("*.parquet"))

    def done(self, *columns: str) -> set[tuple[Any, ...]]:
        """The values of `columns` in all finished shards."""
        found: set[tuple[Any, ...]] = set()
        for shard in self.shards():
            data = pq.read_table(shard, columns=list(columns))
            found.update(zip(*(data[c].to_pylist() for c in columns), strict=True))
        return found

    def rows(self) -> list[dict[str, Any]]:
        """The rows of all finished shards as dictionaries, in the order they were written."""
        return [row for shard in self.shards() for row in pq.read_table(shard).to_pylist()]

    def append(self, rows: Rows) -> None:
        """Write one more shard; it is there whole or not at all."""
        write_table(self.folder / f"{self._next:08d}.parquet", self.table, rows)
        self._next += 1

    def merge(self, sort_by: Sequence[str]) -> int:
        """Join all shards into the table, sorted, and remove them; returns the number of rows."""
        parts = [pq.read_table(shard) for shard in self.shards()]
        whole = pa.concat_tables(parts) if parts else self.table.schema.empty_table()
        whole = whole.sort_by([(column, "ascending") for column in sort_by])
        rows = write_table(self.path, self.table, whole)
        remove(self.folder)
        return rows


def _is_sound(shard: Path) -> bool:
    """Whether a shard can be read, and every page of it is as it was written."""
    try:
        pq.read_table(shard, page_checksum_verification=True)
    except (OSError, ValueError, pa.ArrowException):
        return False
    return shard.stem.isdigit()
