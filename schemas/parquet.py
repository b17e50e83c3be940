"""Read and write declared tables: validated both ways, written whole or not at all."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

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
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
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
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({first_line(error)})") from error


def _of_splits(data: pa.Table, splits: Splits) -> pa.Table:
    if splits is None or "split" not in data.column_names:
        return data
    return data.filter(pc.is_in(data["split"], pa.array(splits, pa.string())))


ROW_GROUP = 8192
"""Rows of a row group in every table's file, where they are not too large."""
GROUP_BYTES = 64 << 20
"""Row groups are closed before they have more: readers hold one of them at a time."""
_MOST_PIECES = 64  # that are held: a small piece takes far more than its rows
_VALUES_AT_ONCE = ROW_GROUP // 2  # of a column: between them it is looked whether a page is full


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
        self._held_rows = self._held_bytes = 0
        self._place = ExitStack()
        temporary = self._place.enter_context(writing_file(path))
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
            # Texts and hashes repeat nothing and are sought by no range, and zstd finds what the
            # other columns repeat: files are as small, and written in a tenth less time.
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
            write_batch_size=_VALUES_AT_ONCE,
        )

    def append(self, data: pa.Table) -> None:
        """Add rows. Raises DataError where they are not what the table declares."""
        if not data.num_rows:
            return
        self._held.append(data)
        self._held_rows += data.num_rows
        self._held_bytes += data.nbytes
        if len(self._held) >= _MOST_PIECES:
            self._held = [pa.concat_tables(self._held).combine_chunks()]
        while rows := self._whole_group():
            self._write_group(rows)

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
            self._write_group(self._whole_group() or self._held_rows)
        counts = json.dumps(dict(self.counts), sort_keys=True)
        self._writer.add_key_value_metadata({"prefline.counts": counts})

    def _whole_group(self) -> int:
        """How many of the rows make a row group that no later row can join; 0 where none do."""
        if self._held_bytes > GROUP_BYTES:  # at least what `row_bytes` finds
            first = pa.concat_tables(self._held).slice(0, ROW_GROUP)
            sizes = np.cumsum(row_bytes(first))
            if sizes[-1] > GROUP_BYTES:
                return max(1, int(np.searchsorted(sizes, GROUP_BYTES, side="right")))
        return ROW_GROUP if self._held_rows >= ROW_GROUP else 0

    def _write_group(self, rows: int) -> None:
        held = pa.concat_tables(self._held)
        rest = held.slice(rows)
        self._held, self._held_rows = ([rest] if rest.num_rows else []), rest.num_rows
        self._held_bytes = rest.nbytes
        group = validate_rows(self._table, held.slice(0, rows), str(self._path))
        # One piece: the pages of the file must not show where the pieces began.
        self._writer.write_table(group.combine_chunks(), row_group_size=ROW_GROUP)
        self.num_rows += group.num_rows


def row_bytes(data: pa.Table | pa.RecordBatch) -> NDArray[np.int64]:
    """[rows] about how many bytes each row has, dictionaries written out."""
    total = np.zeros(data.num_rows, np.int64)
    for column in data.columns:
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        sizes = [_value_bytes(chunk) for chunk in chunks]
        total += np.concatenate(sizes) if sizes else 0
    return total


def _value_bytes(array: pa.Array) -> NDArray[np.int64]:
    kind = array.type
    if pa.types.is_dictionary(kind):
        sizes = _value_bytes(array.dictionary)
        places = array.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
        return np.asarray(np.append(sizes, 0)[places], np.int64)
    if any(is_text(kind) for is_text in _TEXTS):
        return np.diff(_offsets(array))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        ends = np.concatenate(([0], np.cumsum(_value_bytes(array.values))))
        return np.diff(ends[_offsets(array)])
    if pa.types.is_struct(kind):
        fields = [_value_bytes(field) for field in array.flatten()]
        return np.sum(fields, axis=0, dtype=np.int64) if fields else np.zeros(len(array), np.int64)
    return np.full(len(array), array.nbytes // max(1, len(array)), np.int64)


_TEXTS = (
    *(pa.types.is_string, pa.types.is_large_string),
    *(pa.types.is_binary, pa.types.is_large_binary),
)


def _offsets(array: pa.Array) -> NDArray[np.int64]:
    """[n + 1] where texts or lists begin; to_numpy would import pandas, 0.5 s of CPU time."""
    kind = array.type
    large = kind in (pa.large_string(), pa.large_binary()) or pa.types.is_large_list(kind)
    held = np.frombuffer(array.buffers()[1] or bytes(8), np.int64 if large else np.int32)
    return held[array.offset : array.offset + len(array) + 1].astype(np.int64)


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
