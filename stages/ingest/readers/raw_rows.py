"""Raw rows one by one: whatever is wrong with a row becomes a reject, never a lost row.

What is wrong with a whole file (not gzip, cut off, not Parquet, empty) is an error that names it.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from evals.files.opening.formats import format_of
from schemas.files import first_line
from stages.ingest.examples import RowError
from stages.ingest.frames.blocks import MAX_ROW_BYTES, line_blocks
from stages.ingest.readers.columns import Check
from stages.ingest.readers.tables import TablePiece, read_tables


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
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise RowError("duplicate_key", f"the key {twice!r} stands twice in one object")
    return value


def _refuse_lone_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise RowError("lone_surrogate", "a \\u escape is half a character") from error


def raw_line(file: str, row: int, line: bytes, too_long: Mapping[int, int]) -> RawRow:
    """The row on one line; `too_long` are rows of which there is only the beginning."""
    line = line.rstrip(b"\r\n")
    if row in too_long:
        size, most = too_long[row] >> 20, MAX_ROW_BYTES >> 20
        said = f"the line has {size} MB, and no row may have {most}; this is its beginning"
        return RawRow(file, row, RowError("line_too_long", said), line)
    return RawRow(file, row, json_value(line), line)


def read_jsonl(path: Path, file: str) -> Iterator[RawRow]:
    """The lines of a JSON Lines file, or the elements of an array, packed or not.

    `file` is its name in the tables.

    Raises:
        DataError: the file is empty, unreadable, or its packing is damaged or cut off.
    """
    for block in line_blocks(path, file):
        for row, line in enumerate(block.data.split(b"\n")[:-1], block.first_row):
            yield raw_line(file, row, line, block.too_long)


def read_raw_rows(
    path: Path, file: str, check: Check = lambda file, names: None
) -> Iterator[RawRow]:
    """The rows of a file of any format, told by its name and first bytes. Raises DataError."""
    format_ = format_of(path)
    if format_ == "json":
        return read_jsonl(path, file)
    return rows_of_tables(file, read_tables(path, file, format_, check))


def rows_of_tables(file: str, pieces: Iterable[TablePiece]) -> Iterator[RawRow]:
    """The rows of tables one by one."""
    for piece in pieces:
        for at in range(piece.table.num_rows):
            yield row_of_table(file, piece, piece.first_row + at)


def row_of_table(file: str, piece: TablePiece, row: int) -> RawRow:
    """One row of a piece, or what is wrong with it."""
    if row in piece.errors:
        return RawRow(file, row, piece.errors[row])
    value, undecodable = row_value(piece.table.slice(row - piece.first_row, 1))
    return RawRow(file, row, value, undecodable)


def row_value(row: Any) -> tuple[Mapping[str, Any] | RowError, bytes | None]:
    """The row of an Arrow table or batch of one, or the text in it that is not UTF-8."""
    try:
        return row.to_pylist()[0], None
    except UnicodeDecodeError as error:
        return RowError("invalid_utf8", f"byte {error.start} of a text is not UTF-8"), error.object
