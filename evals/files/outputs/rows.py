"""The rows of any table-like file: JSON lines, a JSON array, CSV, Parquet, Arrow; also packed."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evals.files.opening.formats import format_of
from evals.files.opening.json_rows import json_object
from evals.files.opening.one_file import one_file
from evals.files.opening.unpacking import unpacked
from schemas.errors import DataError

Row = dict[str, Any]

_CELL_CHARACTERS = 1 << 30
_PART = 8 << 20


def file_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows of a file with their zero-based numbers.

    Parquet by its first bytes, CSV and Arrow by their names, JSON by its first character: an array
    of objects, or one object a line; text may be packed by gzip or zstd. A folder of save_to_disk
    is its one file.

    Raises:
        MissingInputError: no such file.
        DataError: it cannot be read; the message names the row.
    """
    path = one_file(str(path))
    try:
        if _opening(path)[:4] == b"PAR1":
            yield from _numbered(path, _parquet_batches(path))
        elif format_of(path) == "arrow":
            yield from _numbered(path, _arrow_batches(path))
        elif format_of(path) == "csv":
            yield from _csv_rows(path)
        else:
            yield from _json_rows(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason}); save it as UTF-8") from error
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch the file again") from error


def _opening(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _text(path: Path) -> str:
    parts = []
    with unpacked(path, str(path), lambda: 0) as stream:
        while part := stream.read(_PART):
            parts.append(part)
    return b"".join(parts).decode("utf-8-sig")


def _numbered(path: Path, batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, Row]]:
    number = 0
    try:
        for batch in batches:
            for row in batch.to_pylist():
                yield number, row
                number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: row {number}: {str(error).splitlines()[0]}") from error


def _parquet_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=1024)


def _arrow_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Of an Arrow file, or of a stream, which is what `datasets` writes."""
    with pa.memory_map(str(path)) as source:
        try:
            file = pa.ipc.open_file(source)
        except pa.ArrowInvalid:
            source.seek(0)
            yield from pa.ipc.open_stream(source)
        else:
            yield from map(file.get_batch, range(file.num_record_batches))


def _csv_rows(path: Path) -> Iterator[tuple[int, Row]]:
    lines = _text(path).splitlines(keepends=True)
    tabs = ".tsv" in path.suffixes
    csv.field_size_limit(_CELL_CHARACTERS)
    reader = csv.reader(lines, delimiter="\t" if tabs else ",", strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return
        for number, cells in enumerate(reader):
            if len(cells) != len(header):
                raise DataError(
                    f"{path}: row {number}: {len(cells)} cells, and the header has {len(header)}; "
                    "quote cells that hold commas or line breaks"
                )
            # CSV has no other way to say that there is nothing.
            values = (cell if cell != "" else None for cell in cells)
            yield number, dict(zip(header, values, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: not CSV ({error})") from error


def _json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    text = _text(path)
    if text.lstrip().startswith("["):
        yield from _array(path, text)
        return
    number = 0
    for line in text.split("\n"):
        if line.strip():
            yield number, json_object(line, f"{path}: row {number}")
            number += 1


def _array(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON array ({error}); fetch the file again") from error
    for number, row in enumerate(listed):
        if not isinstance(row, dict):
            raise DataError(
                f"{path}: row {number}: {type(row).__name__}, must be an object with keys"
            )
        yield number, row
