"""Columns of numbers on disk: what a search must know of every text, but not all at once."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

_BLOCK = 1 << 17


class Column:
    """One array in a file. It grows at its end and is read in blocks, in spans or whole."""

    def __init__(self, file: BinaryIO, dtype: DTypeLike) -> None:
        """`file` is empty and unbuffered."""
        self._file = file
        self._dtype = np.dtype(dtype)
        self._length = 0

    def __len__(self) -> int:
        """How many elements."""
        return self._length

    def append(self, values: NDArray[Any]) -> None:
        """Write elements behind the others. Raises OSError where the disk is full."""
        data = memoryview(np.ascontiguousarray(values, self._dtype).tobytes())
        while data:
            data = data[self._file.write(data) :]
        self._length += len(values)

    def blocks(self) -> Iterator[tuple[int, "NDArray[Any]"]]:
        """All elements, a megabyte or two at a time, each block with the place of its first."""
        file, size = self._file.fileno(), self._dtype.itemsize
        for first in range(0, self._length, _BLOCK):
            read = os.pread(file, size * _BLOCK, size * first)
            yield first, np.frombuffer(read, self._dtype)

    def whole(self) -> NDArray[Any]:
        """All elements in memory."""
        values = np.empty(self._length, self._dtype)
        for first, block in self.blocks():
            values[first : first + len(block)] = block
        return values

    def spans(self, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[Any]:
        """The elements from each begin to its end, one span after the other; free to change."""
        file, size = self._file.fileno(), self._dtype.itemsize
        places = zip((size * begins).tolist(), (size * (ends - begins)).tolist(), strict=True)
        read = bytearray().join([os.pread(file, count, begin) for begin, count in places])
        return np.frombuffer(read, self._dtype)


class Scratch:
    """A folder of columns that is there while they are needed; a killed run's is made anew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = ExitStack()

    def column(self, name: str, dtype: DTypeLike) -> Column:
        """A new column."""
        return Column(self._files.enter_context((self._folder / name).open("w+b", 0)), dtype)

    def __enter__(self) -> "Scratch":
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._files.close()
        shutil.rmtree(self._folder)
