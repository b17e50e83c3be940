"""A file of lines as blocks of whole lines, decompressed as it is read."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
from isal import igzip, isal_zlib

from schemas.errors import DataError

BLOCK_BYTES = 8 << 20
_GZIP_FILE: Callable[[Path, str], AbstractContextManager[Any]] = igzip.IGzipFile
_ISAL_ERROR = cast("type[Exception]", isal_zlib.error)
_ZSTD_BUFFER = 1 << 20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class LineBlock:
    """Whole lines, each ended by a newline; `first_row` is the number of the first in the file."""

    first_row: int
    data: bytes


def line_blocks(path: Path, file: str, block_bytes: int | None = None) -> Iterator[LineBlock]:
    """The blocks of a plain, .gz or .zst file; `file` is its name in messages.

    A byte order mark is left out, a last line without its newline gets one.

    Raises:
        DataError: the file is empty, unreadable, or its compressed stream is damaged or cut off.
    """
    row = 0
    try:
        with _open(path) as stream:
            for data in _whole_lines(stream, block_bytes or BLOCK_BYTES):
                yield LineBlock(row, data)
                row += data.count(b"\n")
    except (EOFError, gzip.BadGzipFile, zlib.error, _ISAL_ERROR, pa.ArrowException) as error:
        raise _damaged(file, path, row, error) from error
    except OSError as error:
        if error.errno is None:  # a compressed stream, not the disk
            raise _damaged(file, path, row, error) from error
        raise DataError(f"{file}: cannot be read after row {row} ({error.strerror})") from error
    if row == 0:
        raise DataError(f"{file}: the file is empty; fetch it again or leave it out")


def _open(path: Path) -> AbstractContextManager[Any]:
    if path.name.endswith(".gz"):
        return _GZIP_FILE(path, "rb")
    if path.name.endswith(".zst"):
        return io.BufferedReader(pa.input_stream(path, compression="zstd"), _ZSTD_BUFFER)
    return path.open("rb")


def _whole_lines(stream: Any, block_bytes: int) -> Iterator[bytes]:
    first = True
    while block := stream.read(block_bytes):
        if not block.endswith(b"\n"):
            block += stream.readline()
        if first:
            block, first = block.removeprefix(_BOM), False
        if block:
            yield block if block.endswith(b"\n") else block + b"\n"


def _damaged(file: str, path: Path, row: int, error: Exception) -> DataError:
    what = "zstd" if path.name.endswith(".zst") else "gzip"
    return DataError(
        f"{file}: damaged or cut-off {what} after row {row} ({error}); fetch the file again"
    )
