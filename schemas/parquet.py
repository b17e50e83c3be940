"""Read and write declared tables: validated both ways, written whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import DataError, MissingInputError
from schemas.tables import SCHEMA_VERSION, Table

Rows = Iterable[Mapping[str, Any]]


def rows_to_arrow(table: Table, rows: Rows) -> pa.Table:
    """Turn dictionaries into an Arrow table of the declared schema.

    Raises:
        DataError: a value has the wrong type, or a key is unknown or missing.
    """
    listed = list(rows)
    known = set(table.schema.names)
    for index, row in enumerate(listed):
        if set(row) != known:
            odd = sorted(set(row) ^ known)
            raise DataError(f"{table.name} row {index}: columns {odd} are missing or unknown")
    try:
        return pa.Table.from_pylist(listed, schema=table.schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"{table.name}: {error}") from error


def validate(table: Table, data: pa.Table, where: str) -> pa.Table:
    """Cast to the declared schema and check nulls, key, allowed values and ranges.

    Raises:
        DataError: naming `where`, the column, and the first offending row or value.
    """
    data = validate_rows(table, data, where)
    if table.key and data.num_rows:
        distinct = data.group_by(list(table.key)).aggregate([]).num_rows
        if distinct != data.num_rows:
            raise DataError(
                f"{where}: {data.num_rows - distinct} rows repeat the key {', '.join(table.key)}"
            )
    return data


def validate_rows(table: Table, data: pa.Table, where: str) -> pa.Table:
    """What `validate` does, but for the key, which a part of a table cannot tell.

    Raises:
        DataError: naming `where`, the column, and the first offending row or value.
    """
    missing = [n for n in table.schema.names if n not in data.column_names]
    if missing:
        raise DataError(
            f"{where}: not a {table.name} table: column {missing[0]!r} is missing "
            f"(found {', '.join(data.column_names[:8])})"
        )
    try:
        data = data.select(table.schema.names).cast(table.schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise DataError(f"{where}: not a {table.name} table: {error}") from error
    for column in table.schema:
        values = data[column.name]
        if not column.nullable and values.null_count:
            row = pc.index(values.is_null(), True).as_py()
            raise DataError(f"{where}: row {row}: {column.name} is null")
    for name, allowed in table.allowed.items():
        seen = set(data[name].unique().to_pylist()) - {None}
        if seen - allowed:
            raise DataError(
                f"{where}: {name} is {sorted(seen - allowed)[0]!r}, must be one of "
                f"{', '.join(sorted(allowed))}"
            )
    for name, (low, high) in table.ranges.items():
        values = data[name].drop_null()
        inside = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))
        if len(values) and not pc.all(inside).as_py():
            raise DataError(f"{where}: {name} has a value outside [{low}, {high}]")
    return data


def read_table(path: Path, table: Table) -> pa.Table:
    """Read a whole declared table.

    Raises:
        MissingInputError: no such file.
        DataError: truncated, not Parquet, of another schema, or invariants broken.
    """
    if not path.exists():
        raise MissingInputError(f"{path}: no such table; run the stage that writes it")
    try:
        data = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path}: cannot be read as Parquet ({_first_line(error)}); "
            "delete its stage directory and run the stage again"
        ) from error
    return validate(table, data, str(path))


def read_rows(path: Path, table: Table) -> list[dict[str, Any]]:
    """Read a whole declared table as dictionaries. Raises what `read_table` raises."""
    rows: list[dict[str, Any]] = read_table(path, table).to_pylist()
    return rows


def iter_batches(path: Path, table: Table, batch_rows: int = 8192) -> Iterator[pa.Table]:
    """Stream a declared table in batches of at most `batch_rows` rows, in file order.

    Keys are not checked across batches: the writer did that.
    """
    if not path.exists():
        raise MissingInputError(f"{path}: no such table; run the stage that writes it")
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=batch_rows):
                yield validate(table, pa.Table.from_batches([batch]), str(path))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({_first_line(error)})") from error


ROW_GROUP = 8192
"""Rows of a row group in every table's file."""
# Columns of texts and hashes repeat nothing, so that a dictionary of them is wasted work.
_UNREPEATED = ("content", "raw", "detail")


class TableWriter:
    """Writes a declared table piece by piece, in bounded memory; it is there whole or not at all.

    The bytes depend on the rows alone, not on how they are cut into pieces. The file's metadata
    carries the table's name, schema version and `counts`, which may be set until the end (in
    `pyarrow.parquet.ParquetFile(path).metadata.metadata`). Keys
    are not checked: that takes all rows at once (`write_table`).
    """

    def __init__(self, path: Path, table: Table) -> None:
        self.counts: Mapping[str, int] = {}
        self.num_rows = 0
        self._path, self._table = path, table
        self._temporary = path.with_name(path.name + ".writing")
        self._held: list[pa.Table] = []
        self._held_rows = 0
        self._finished = False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(
            self._temporary,
            table.schema.with_metadata(
                {
                    "prefline.table": table.name,
                    "prefline.schema_version": str(SCHEMA_VERSION),
                }
            ),
            compression="zstd",
            compression_level=1,
            use_dictionary=[leaf for leaf in _leaves(table.schema) if _repeats(leaf)],
        )

    def append(self, data: pa.Table) -> None:
        """Add rows. Raises DataError where they are not what the table declares."""
        if not data.num_rows:
            return
        self._held.append(data)
        self._held_rows += data.num_rows
        while self._held_rows >= ROW_GROUP:
            self._write_group()

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._writer.close()
            if not self._finished:
                self._temporary.unlink()
        if self._finished:
            os.replace(self._temporary, self._path)

    def _finish(self) -> None:
        while self._held_rows:
            self._write_group()
        counts = json.dumps(dict(self.counts), sort_keys=True)
        self._writer.add_key_value_metadata({"prefline.counts": counts})
        self._finished = True

    def _write_group(self) -> None:
        held = pa.concat_tables(self._held)
        rest = held.slice(ROW_GROUP)
        self._held, self._held_rows = ([rest] if rest.num_rows else []), rest.num_rows
        group = validate_rows(self._table, held.slice(0, ROW_GROUP), str(self._path))
        # One piece: the pages of the file must not show where the pieces began.
        self._writer.write_table(group.combine_chunks(), row_group_size=ROW_GROUP)
        self.num_rows += group.num_rows


def _leaves(schema: pa.Schema) -> Iterator[str]:
    """The columns of a Parquet file, as its writer names them."""
    for column in schema:
        if pa.types.is_list(column.type):
            yield from (f"{column.name}.list.element.{f.name}" for f in column.type.value_type)
        else:
            yield str(column.name)


def _repeats(leaf: str) -> bool:
    return not leaf.endswith(("_id", *_UNREPEATED))


def table_counts(path: Path) -> dict[str, int]:
    """The counts that a table's writer has put into the file."""
    metadata = pq.read_metadata(path).metadata or {}
    counts: dict[str, int] = json.loads(metadata.get(b"prefline.counts", b"{}"))
    return counts


def write_table(
    path: Path, table: Table, data: pa.Table | Rows, counts: Mapping[str, int] | None = None
) -> int:
    """Validate and write a declared table atomically; returns the number of rows.

    The file's metadata carries the table's name, schema version and `counts`.
    """
    arrow = data if isinstance(data, pa.Table) else rows_to_arrow(table, data)
    arrow = validate(table, arrow, str(path))
    with TableWriter(path, table) as writer:
        writer.counts = counts or {}
        writer.append(arrow)
    return int(arrow.num_rows)


class ShardedTable:
    """A table that grows by finished shards, so that a killed stage continues where it was.

    Shards are small Parquet files in `<directory>/<table>.shards/`, written atomically; `merge`
    makes the table of them, sorted by `sort_by`, and removes them.
    """

    def __init__(self, directory: Path, table: Table, name: str | None = None) -> None:
        """`name` is the file's stem where a stage writes several files of one table."""
        self.table = table
        self.path = directory / f"{name or table.name}.parquet"
        self._folder = directory / f"{name or table.name}.shards"
        self._folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._undo_merge()

    def _undo_merge(self) -> None:
        """Make the whole table the first shard again: `merge` was killed, or its stage after it."""
        for shard in self.shards():
            shard.unlink()
        os.replace(self.path, self._folder / f"{0:08d}.parquet")

    def shards(self) -> list[Path]:
        """The finished shards, in the order they were written."""
        return sorted(self._folder.glob("*.parquet"))

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
        write_table(self._folder / f"{len(self.shards()):08d}.parquet", self.table, rows)

    def merge(self, sort_by: Sequence[str]) -> int:
        """Join all shards into the table, sorted, and remove them; returns the number of rows."""
        parts = [pq.read_table(shard) for shard in self.shards()]
        whole = pa.concat_tables(parts) if parts else self.table.schema.empty_table()
        whole = whole.sort_by([(column, "ascending") for column in sort_by])
        rows = write_table(self.path, self.table, whole)
        shutil.rmtree(self._folder)
        return rows


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
