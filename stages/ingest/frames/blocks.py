"""A file of lines as blocks of whole lines, decompressed as it is read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from evals.files.opening.unpacking import Unpacked, unpacked
from schemas.errors import DataError
from stages.ingest.frames.arrays import ElementTooLongError, array_lines, opens_array

BLOCK_BYTES = 16 << 20
MAX_ROW_BYTES = 32 << 20
"""No row may have more: what is made of one in memory is many times as large."""
_MOST_LINES = 1 << 16
_LOOK_AHEAD = 1 << 20
_COPIES_OF_AN_ARRAY = 4  # of a block of one: its elements are cut out and put together as lines
_BEGINNING = 1000  # bytes that are kept of a line that is too long
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class LineBlock:
    """Whole lines, each ended by a newline; `first_row` is the number of the first in the file.

    `too_long` are rows of more than MAX_ROW_BYTES with their sizes; `data` has their beginnings.
    """

    first_row: int
    data: bytes
    too_long: Mapping[int, int] = field(default_factory=dict)


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
        read = _elements if opens_array(start) else _whole_lines
        blocks = read(start, stream, size)
        del start  # else it is held to the end of the file
        try:
            for data, found in blocks:
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


Sized = tuple[bytes, Mapping[int, int]]
"""A block, and of its lines those that are too long: number in the block -> bytes."""


def _elements(start: bytes, stream: Unpacked, size: int) -> Iterator[Sized]:
    blocks = array_lines(start, stream, size // _COPIES_OF_AN_ARRAY, MAX_ROW_BYTES)
    return ((data, {}) for data in blocks)


def _whole_lines(start: bytes, stream: Unpacked, size: int) -> Iterator[Sized]:
    block = start
    del start
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
