"""A file of lines as blocks of whole lines, decompressed as it is read."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from isal import igzip, isal_zlib

from schemas.errors import DataError, PipelineError
from stages.ingest.frames.arrays import ElementTooLongError, array_lines, opens_array

BLOCK_BYTES = 8 << 20
MAX_ROW_BYTES = 32 << 20
"""No row may have more: what is made of one in memory is many times as large."""
_UNPACKED_FREELY, _UNPACKED_TIMES = 256 << 20, 200
"""From so many bytes on, a file may be unpacked to so many times its size; texts come to ten."""
_MOST_LINES = 1 << 16
_LOOK_AHEAD = 1 << 20
_BEGINNING = 1000  # bytes that are kept of a line that is too long
_GZIP_FILE: Callable[[Path, str], AbstractContextManager[Any]] = igzip.IGzipFile
_ISAL_ERROR = cast("type[Exception]", isal_zlib.error)
_ZSTD_BUFFER = 1 << 20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class LineBlock:
    """Whole lines, each ended by a newline; `first_row` is the number of the first in the file.

    `too_long` are rows of more than MAX_ROW_BYTES with their sizes; `data` has their beginnings.
    """

    first_row: int
    data: bytes
    too_long: Mapping[int, int] = field(default_factory=dict)


class Unpacked:
    """A stream that counts what comes out of it, and stops where a small file becomes huge."""

    def __init__(self, stream: Any, path: Path, file: str) -> None:
        self._stream, self._file = stream, file
        self._allowed = max(_UNPACKED_FREELY, _UNPACKED_TIMES * path.stat().st_size)

    def read(self, size: int, /) -> bytes:
        """At most so many bytes. Raises DataError."""
        return self._counted(self._stream.read(size))

    def readline(self, size: int, /) -> bytes:
        """At most so many bytes of a line. Raises DataError."""
        return self._counted(self._stream.readline(size))

    def _counted(self, data: bytes) -> bytes:
        self._allowed -= len(data)
        if self._allowed < 0:
            raise DataError(
                f"{self._file}: unpacks to more than {_UNPACKED_TIMES} times its size; texts do "
                "not, so nothing more of it is read: check where the file comes from"
            )
        return data


def line_blocks(path: Path, file: str, block_bytes: int | None = None) -> Iterator[LineBlock]:
    """The blocks of a plain, .gz or .zst file of lines, or of an array whose elements are lines.

    A byte order mark is left out, a last line without its newline gets one; `file` is the name in
    messages.

    Raises:
        DataError: the file is empty, unreadable, or its compressed stream is damaged or cut off.
    """
    row = 0
    size = block_bytes or BLOCK_BYTES
    with unpacked(path, file, lambda: row) as stream:
        start = stream.read(max(size, len(_BOM))).removeprefix(_BOM)
        if start[:1] in b"[ \t\r\n":  # what it is does not depend on the size of blocks
            start += stream.read(_LOOK_AHEAD)
        blocks = _elements if opens_array(start) else _whole_lines
        try:
            for data, found in blocks(start, stream, size):
                too_long = {row + at: length for at, length in found.items()}
                for part in _parts(data):
                    yield LineBlock(row, part, too_long)
                    row += part.count(b"\n")
        except ElementTooLongError as error:
            raise DataError(
                f"{file}: row {row} of the array has more than {MAX_ROW_BYTES >> 20} MB; "
                "leave it out or write one row a line"
            ) from error
    if row == 0:
        raise DataError(f"{file}: the file is empty; fetch it again or leave it out")


def _parts(data: bytes) -> Iterator[bytes]:
    """Blocks of so few lines that what is made of each fits into memory, whatever it is."""
    if data.count(b"\n") <= _MOST_LINES:
        yield data
        return
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))[
        _MOST_LINES - 1 :: _MOST_LINES
    ]
    places = [0, *(ends + 1).tolist(), len(data)]
    yield from filter(None, (data[start:end] for start, end in pairwise(places)))


@contextmanager
def unpacked(path: Path, file: str, row: Callable[[], int]) -> Iterator[Unpacked]:
    """The bytes of a plain, .gz or .zst file; `row` is the row that reading has come to.

    Raises:
        DataError: it is unreadable, damaged or cut off, or far larger than its packing.
    """
    try:
        with _open(path) as stream:
            yield Unpacked(stream, path, file)
    except (EOFError, gzip.BadGzipFile, zlib.error, _ISAL_ERROR, pa.ArrowException) as error:
        raise _damaged(file, path, row(), error) from error
    except OSError as error:
        if isinstance(error, PipelineError):
            raise
        if error.errno is None:  # a compressed stream, not the disk
            raise _damaged(file, path, row(), error) from error
        raise DataError(f"{file}: cannot be read after row {row()} ({error.strerror})") from error


def _open(path: Path) -> AbstractContextManager[Any]:
    if path.name.endswith(".gz"):
        return _GZIP_FILE(path, "rb")
    if path.name.endswith(".zst"):
        return io.BufferedReader(pa.input_stream(path, compression="zstd"), _ZSTD_BUFFER)
    return path.open("rb")


Sized = tuple[bytes, Mapping[int, int]]
"""A block, and of its lines those that are too long: number in the block -> bytes."""


def _elements(start: bytes, stream: Unpacked, size: int) -> Iterator[Sized]:
    for data in array_lines(start, stream, size, MAX_ROW_BYTES):
        yield data, {}


def _whole_lines(start: bytes, stream: Unpacked, size: int) -> Iterator[Sized]:
    block = start
    while block:
        more = b"" if block.endswith(b"\n") else stream.readline(MAX_ROW_BYTES)
        last_begins = block.rfind(b"\n") + 1
        length = len(block) - last_begins + len(more)
        if more and not more.endswith(b"\n") and length >= MAX_ROW_BYTES:
            length += _skip_line(stream)
        if length > MAX_ROW_BYTES:
            # Not to be taken for a whole line, it must not end like one.
            beginning = (block[last_begins : last_begins + _BEGINNING] + more)[:_BEGINNING]
            yield (
                block[:last_begins] + beginning + b" ...\n",
                {block.count(b"\n", 0, last_begins): length},
            )
        else:
            block += more
            yield (block if block.endswith(b"\n") else block + b"\n"), {}
        block = stream.read(size)


def _skip_line(stream: Unpacked) -> int:
    """Read to the end of the line; returns the bytes that it had."""
    skipped = 0
    while more := stream.readline(BLOCK_BYTES):
        skipped += len(more)
        if more.endswith(b"\n"):
            break
    return skipped


def _damaged(file: str, path: Path, row: int, error: Exception) -> DataError:
    what = "zstd" if path.name.endswith(".zst") else "gzip"
    return DataError(
        f"{file}: damaged or cut-off {what} after row {row} ({error}); fetch the file again"
    )
