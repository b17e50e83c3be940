"""How much memory a file of columns may take when it is unpacked, found before it is."""

import os
import struct
from pathlib import Path
from typing import IO, Any, NamedTuple

from schemas.errors import DataError

_UNPACKED_FREELY, _UNPACKED_TIMES = 256 << 20, 200
"""From so many bytes on, a part of a file may be unpacked to so many times its size."""
_AT_ONCE = 2 << 30
"""What decoding may take at the worst: every value of a batch being the whole dictionary."""
_USUALLY_AT_ONCE = 128 << 20
"""What the rows of a batch have on average, where they are so large."""


def rows_at_once(path: Path, file: str, metadata: Any, most: int) -> int:
    """How many rows of a Parquet file may be decoded in one go.

    A value of a dictionary is written out for every row that refers to it, so that a small file can
    become a huge column; a page is unpacked whole. What the metadata say of sizes is not believed:
    the pages are looked at, whose own sizes are those by which memory is taken.

    Raises:
        DataError: a column is packed as texts never are, or its pages are not where they should be.
    """
    rows = most
    with path.open("rb") as stream:
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            size = 0
            for column in map(group.column, range(group.num_columns)):
                pages = _pages(stream, file, column)
                unpacked = sum(page.unpacked for page in pages)
                _check_ratio(file, sum(page.packed for page in pages), unpacked)
                size += unpacked
                entries = [page.unpacked for page in pages if page.kind == _DICTIONARY_PAGE]
                if entries and column.physical_type == "BYTE_ARRAY":
                    values = -(-column.num_values // max(1, group.num_rows))
                    rows = min(rows, _AT_ONCE // max(1, entries[0] * max(1, values)))
            rows = min(rows, _USUALLY_AT_ONCE * max(1, group.num_rows) // max(1, size))
    return max(1, rows)


def _check_ratio(file: str, packed: int, unpacked: int) -> None:
    if unpacked > max(_UNPACKED_FREELY, _UNPACKED_TIMES * packed):
        raise DataError(
            f"{file}: a part of {packed} bytes unpacks to {unpacked}, which texts do not; nothing "
            "of it is read: check where the file comes from"
        )


class _Page(NamedTuple):
    """A page's kind, its bytes without and with packing, and how many values it has."""

    kind: int
    unpacked: int
    packed: int
    values: int


_DICTIONARY_PAGE = 2
_DATA_PAGES = (5, 8)  # the fields of a header that describe data, of the two versions
_HEADER, _LONGEST_HEADER = 256, 16 << 20  # bytes; the second is what readers of Parquet take


def _pages(stream: IO[bytes], file: str, column: Any) -> list[_Page]:
    """The pages of a column in one row group, as their headers have them. Raises DataError."""
    starts = [column.data_page_offset]
    if column.has_dictionary_page and column.dictionary_page_offset is not None:
        starts.append(column.dictionary_page_offset)
    at = min(start for start in starts if start > 0 or start == starts[0])
    end, pages = at + column.total_compressed_size, []
    length = os.fstat(stream.fileno()).st_size
    if not 0 <= at <= end <= length:
        raise DataError(f"{file}: damaged: {column.path_in_schema} lies outside of it")
    while at < end:
        page, header = _page(stream, at)
        if page is None or page.unpacked < 0 or not 0 <= page.packed <= length - at - header:
            raise DataError(
                f"{file}: damaged: {column.path_in_schema} has no page at byte {at}; fetch the "
                "file again"
            )
        pages.append(page)
        at += header + page.packed
    if sum(page.values for page in pages) != column.num_values:
        raise DataError(
            f"{file}: damaged: the pages of {column.path_in_schema} have other numbers of values "
            f"than the file says ({column.num_values}); fetch the file again"
        )
    return pages


def _page(stream: IO[bytes], at: int) -> tuple[_Page | None, int]:
    """The page whose header begins there, and the bytes that the header has; None for no page."""
    size = _HEADER
    while size <= _LONGEST_HEADER:
        stream.seek(at)
        data = stream.read(size)
        try:
            fields, end = _fields(data, 0)
            values = next((fields[of][1] for of in _DATA_PAGES if of in fields), 0)
            return _Page(fields[1], fields[2], fields[3], values), end
        except IndexError:
            if len(data) < size:
                break
            size *= 16
        except (KeyError, ValueError):
            break
    return None, 0


_TRUE, _FALSE, _BYTE, _SHORT, _INT, _LONG, _DOUBLE, _TEXT = range(1, 9)
_STRUCT = 12
_SIZES = {_TRUE: 0, _FALSE: 0, _BYTE: 1, _DOUBLE: 8}
_DEEPEST = 8  # a header nests three deep
_LONGEST_NUMBER = 70  # bits, of 64


def _fields(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """The numbers and structures of a structure in Thrift's compact form, and where it ends.

    Raises:
        IndexError: it goes on after what is there.
        ValueError: it is none, or none of a page's header, which has no lists.
    """
    if depth > _DEEPEST:
        raise ValueError
    found: dict[int, Any] = {}
    field = 0
    while data[at]:
        step, kind = data[at] >> 4, data[at] & 15
        field, at = (field + step, at + 1) if step else _number(data, at + 1)
        if kind in (_SHORT, _INT, _LONG):
            found[field], at = _number(data, at)
        elif kind == _STRUCT:
            found[field], at = _fields(data, at, depth + 1)
        elif kind == _TEXT:
            length, at = _varint(data, at)
            at += length
        elif kind in _SIZES:
            at += _SIZES[kind]
        else:
            raise ValueError
    return found, at + 1


def _number(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < _LONGEST_NUMBER:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError


def check_message(message: Any, file: str) -> None:
    """Refuse a message of Arrow's whose buffers are packed as texts never are.

    Each packed buffer begins with its unpacked size; where the buffers lie is in the message's
    metadata, a FlatBuffer. Raises DataError.
    """
    body = message.body
    if body is None or not body.size:
        return
    declared = sum(
        struct.unpack("<q", body.slice(start, 8).to_pybytes())[0]
        for start, length in _packed_buffers(message.metadata.to_pybytes())
        if length >= 8 and start + 8 <= body.size
    )
    _check_ratio(file, body.size, max(0, declared))


def _packed_buffers(metadata: bytes) -> list[tuple[int, int]]:
    """(start, bytes) of a message's buffers where they are packed; none where they are not."""
    try:
        message = _Table(metadata, struct.unpack_from("<I", metadata, 0)[0])
        kind = message.number(1, "<B")
        header = message.table(2)
        if kind == _DICTIONARY and header is not None:
            header = header.table(1)
        if header is None or kind not in (_DICTIONARY, _RECORDS) or header.table(3) is None:
            return []
        return header.pairs(2)
    except struct.error:
        return []


_DICTIONARY, _RECORDS = 2, 3


class _Table:
    """A table of a FlatBuffer: fields by number, as far as they are there."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._fields = at - struct.unpack_from("<i", data, at)[0]

    def _place(self, number: int) -> int | None:
        size = struct.unpack_from("<H", self._data, self._fields)[0]
        if 4 + 2 * number >= size:
            return None
        offset = struct.unpack_from("<H", self._data, self._fields + 4 + 2 * number)[0]
        return self._at + offset if offset else None

    def number(self, number: int, form: str) -> int:
        """A number; 0 where there is none."""
        place = self._place(number)
        return 0 if place is None else int(struct.unpack_from(form, self._data, place)[0])

    def table(self, number: int) -> "_Table | None":
        """A table below this one."""
        place = self._place(number)
        if place is None:
            return None
        return _Table(self._data, place + struct.unpack_from("<I", self._data, place)[0])

    def pairs(self, number: int) -> list[tuple[int, int]]:
        """A vector of pairs of long numbers."""
        place = self._place(number)
        if place is None:
            return []
        start = place + struct.unpack_from("<I", self._data, place)[0]
        count = struct.unpack_from("<I", self._data, start)[0]
        return [struct.unpack_from("<qq", self._data, start + 4 + 16 * i) for i in range(count)]
