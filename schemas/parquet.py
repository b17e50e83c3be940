"""Read and write declared tables: validated both ways, written whole or not at all."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import DataError, MissingInputError
from schemas.files import first_line, writing_file
from schemas.tables import MESSAGES, SCHEMA_VERSION, Table
from schemas.validation import Rows, rows_to_arrow, validate, validate_rows

Splits = Sequence[str] | None
"""Names of the splits whose rows are read; None is for all of them."""


def read_table(path: Path, table: Table, splits: Splits = None) -> pa.Table:
    """Read a declared table, or its rows of some splits.

    Raises:
        MissingInputError: no such file.
        DataError: truncated, not Parquet, of another schema, or invariants broken.
    """
    if not path.exists():
        raise MissingInputError(f"{path}: no such table; run the stage that writes it")
    try:
        data = _of_splits(pq.read_table(path), splits)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path}: cannot be read as Parquet ({first_line(error)}); "
            "delete its stage directory and run the stage again"
        ) from error
    return validate(table, data, str(path))


def read_rows(path: Path, table: Table, splits: Splits = None) -> list[dict[str, Any]]:
    """Read a declared table as dictionaries. Raises what `read_table` raises."""
    return rows_of(read_table(path, table, splits))


def rows_of(data: pa.Table) -> list[dict[str, Any]]:
    """The rows as dictionaries; of a message they have what it has, and no nulls."""
    rows: list[dict[str, Any]] = data.to_pylist()
    for name in (column.name for column in data.schema if column.type == MESSAGES):
        for row in rows:
            row[name] = _without_nulls(row[name])
    return rows


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(v) for name, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


def iter_batches(
    path: Path, table: Table, batch_rows: int = 8192, splits: Splits = None
) -> Iterator[pa.Table]:
    """Stream a declared table in batches of at most `batch_rows` rows, in file order.

    Keys are not checked across batches: the writer did that.
    """
    if not path.exists():
        raise MissingInputError(f"{path}: no such table; run the stage that writes it")
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=batch_rows):
                rows = _of_splits(pa.Table.from_batches([batch]), splits)
                yield validate(table, rows, str(path))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({first_line(error)})") from error


def _of_splits(data: pa.Table, splits: Splits) -> pa.Table:
    if splits is None or "split" not in data.column_names:
        return data
    return data.filter(pc.is_in(data["split"], pa.array(splits, pa.string())))


ROW_GROUP = 8192
"""Rows of a row group in every table's file."""
# Texts and hashes repeat nothing and are sought by no range: a dictionary or the least and greatest
# of them would be wasted work, and whole texts in the file's metadata.
_UNREPEATED = ("content", "reasoning", "arguments", "extra", "raw", "detail")


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
        self._held: list[pa.Table] = []
        self._held_rows = 0
        self._place = ExitStack()
        temporary = self._place.enter_context(writing_file(path))
        repeated = [leaf for leaf in _leaves(table.schema) if _repeats(leaf)]
        self._writer = pq.ParquetWriter(
            temporary,
            table.schema.with_metadata(
                {
                    "prefline.table": table.name,
                    "prefline.schema_version": str(SCHEMA_VERSION),
                }
            ),
            compression="zstd",
            compression_level=1,
            use_dictionary=repeated,
            write_page_checksum=True,
            write_statistics=repeated,
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
        with self._place as place:
            place.callback(self._writer.close)
            if error is not None:
                raise error
            self._finish()

    def _finish(self) -> None:
        while self._held_rows:
            self._write_group()
        counts = json.dumps(dict(self.counts), sort_keys=True)
        self._writer.add_key_value_metadata({"prefline.counts": counts})

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
        yield from _leaves_of(str(column.name), column.type)


def _leaves_of(name: str, kind: pa.DataType) -> Iterator[str]:
    if pa.types.is_list(kind):
        yield from _leaves_of(f"{name}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves_of(f"{name}.{field.name}", field.type)
    else:
        yield name


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
