"""The bytes of plain and packed files, decompressed as they are read."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
from isal import igzip, isal_zlib

from schemas.errors import DataError, PipelineError

_UNPACKED_FREELY, _UNPACKED_TIMES = 256 << 20, 200
"""From so many bytes on, a file may be unpacked to so many times its size; texts come to ten."""
_GZIP_FILE: Callable[[Path, str], AbstractContextManager[Any]] = igzip.IGzipFile
_ISAL_ERROR = cast("type[Exception]", isal_zlib.error)
_ZSTD_BUFFER = 1 << 20


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


def _damaged(file: str, path: Path, row: int, error: Exception) -> DataError:
    what = "zstd" if path.name.endswith(".zst") else "gzip"
    return DataError(
        f"{file}: damaged or cut-off {what} after row {row} ({error}); fetch the file again"
    )
