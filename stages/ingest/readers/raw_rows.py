"""Raw rows one by one: whatever is wrong with a row becomes a reject, never a lost row.

What is wrong with a whole file (not gzip, cut off, not Parquet, empty) is an error that names it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import BackendError, DataError
from schemas.files import first_line
from stages.ingest.examples import RowError
from stages.ingest.frames.blocks import line_blocks
from stages.ingest.readers.columns import has_columns, kinds_with


@dataclass(frozen=True)
class RawRow:
    """One row as it was read: its value, or the error that reading it was."""

    file: str
    row: int
    value: Mapping[str, Any] | RowError
    line: bytes | None = None

    @cached_property
    def raw(self) -> str:
        """The row as text; bytes that are not UTF-8 are backslash-escaped."""
        if self.line is not None:
            return self.line.decode("utf-8", "backslashreplace")
        if isinstance(self.value, RowError):
            return ""
        return json.dumps(self.value, ensure_ascii=False, default=str)


def json_value(line: bytes) -> Mapping[str, Any] | RowError:
    """The object on one line of JSON Lines, or what is wrong with the line."""
    try:
        return _parse_line(line)
    except RowError as error:
        return error
    except UnicodeDecodeError as error:
        return RowError("invalid_utf8", f"byte {error.start} is not UTF-8")
    except (ValueError, RecursionError) as error:  # not JSON, or numbers and nesting past limits
        return RowError("invalid_json", first_line(error))


def _parse_line(line: bytes) -> Mapping[str, Any]:
    if not line.strip():
        raise RowError("blank_line", "the line is empty")
    value = json.loads(
        line.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_unique_keys
    )
    if not isinstance(value, dict):
        raise RowError("not_an_object", f"the line is a JSON {type(value).__name__}")
    if b"\\ud" in line.lower():
        _refuse_lone_surrogates(value)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise RowError("non_finite_number", f"{name} is not JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise RowError("duplicate_key", f"the key {twice!r} stands twice in one object")
    return value


def _refuse_lone_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise RowError("lone_surrogate", "a \\u escape is half a character") from error


def read_jsonl(path: Path, file: str) -> Iterator[RawRow]:
    """The lines of a JSON Lines file, packed or not; `file` is its name in the tables.

    Raises:
        DataError: the file is empty, unreadable, or its packing is damaged or cut off.
    """
    for block in line_blocks(path, file):
        for row, line in enumerate(block.data.split(b"\n")[:-1], block.first_row):
            line = line.rstrip(b"\r\n")
            yield RawRow(file, row, json_value(line), line)


def read_parquet(path: Path, file: str, columns: tuple[tuple[str, ...], ...]) -> Iterator[RawRow]:
    """The rows of a Parquet file.

    `columns` are sets of columns of which the file must have one whole.

    Raises:
        DataError: the file is empty, cut off, not Parquet, or has other columns.
    """
    for first_row, batch in parquet_batches(path, file, columns, batch_rows=512):
        for i in range(batch.num_rows):
            value, undecodable = row_value(batch.slice(i, 1))
            yield RawRow(file, first_row + i, value, undecodable)


def parquet_batches(
    path: Path, file: str, columns: tuple[tuple[str, ...], ...], batch_rows: int
) -> Iterator[tuple[int, Any]]:
    """The record batches of a Parquet file, each with the number of its first row.

    Raises what `read_parquet` raises.
    """
    row = 0
    try:
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as parquet:
            _check_columns(file, parquet.schema_arrow.names, columns)
            for batch in parquet.iter_batches(batch_size=batch_rows, use_threads=False):
                yield row, batch
                row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{file}: cannot be read as Parquet after row {row} ({first_line(error)}); "
            "fetch the file again"
        ) from error
    if row == 0:
        raise DataError(f"{file}: the file has no rows; fetch it again or leave it out")


def _check_columns(file: str, found: list[str], columns: tuple[tuple[str, ...], ...]) -> None:
    if has_columns(found, columns):
        return
    shapes = " or ".join(", ".join(wanted) for wanted in columns)
    kinds = " or ".join(f"kind = '{kind}'" for kind in kinds_with(found))
    raise DataError(
        f"{file}: has the columns {', '.join(found[:8])} where {shapes} are needed; "
        + (f"such columns has {kinds}" if kinds else "check the dataset's kind")
    )


def row_value(row: Any) -> tuple[Mapping[str, Any] | RowError, bytes | None]:
    """The row of an Arrow batch of one, or the text in it that is not UTF-8."""
    try:
        return row.to_pylist()[0], None
    except UnicodeDecodeError as error:
        return RowError("invalid_utf8", f"byte {error.start} of a text is not UTF-8"), error.object


def read_hub(
    hub_id: str,
    *,
    revision: str,
    subset: str | None,
    folder: str | None,
    split: str,
    streaming: bool = False,
) -> Iterator[RawRow]:
    """The rows of one split of a data set on a hub, through `datasets`.

    With `streaming` nothing is kept on disk, and no more is fetched than what is read.

    Raises:
        BackendError: the hub, the data set or the split cannot be had.
    """
    file = "/".join(filter(None, (f"hub:{hub_id}@{revision}", subset, folder, split)))
    try:
        import datasets

        rows = datasets.load_dataset(
            hub_id,
            name=subset,
            data_dir=folder,
            revision=revision,
            split=split,
            streaming=streaming,
        )
        for row, value in enumerate(rows):
            yield RawRow(file, row, value)
    except Exception as error:  # whatever the loader and the network below it raise
        raise BackendError(
            f"{file}: cannot be loaded ({type(error).__name__}: {first_line(error)}); check the "
            "name and the network, or download its files and set path instead of hub_id"
        ) from error
