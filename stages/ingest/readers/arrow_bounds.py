"""How much memory a file of columns may take when it is unpacked, found before it is."""

import struct
from pathlib import Path
from typing import Any

from schemas.errors import DataError

_UNPACKED_FREELY, _UNPACKED_TIMES = 256 << 20, 200
"""From so many bytes on, a part of a file may be unpacked to so many times its size."""
_AT_ONCE = 2 << 30
"""What decoding may take at the worst: every value of a batch being the whole dictionary."""


def rows_at_once(path: Path, file: str, metadata: Any, most: int) -> int:
    """How many rows of a Parquet file may be decoded in one go.

    A value of a dictionary is written out for every row that refers to it, so that a small file can
    become a huge column; a page is unpacked whole.

    Raises:
        DataError: a column is packed as texts never are.
    """
    rows = most
    with path.open("rb") as stream:
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                _check_ratio(file, column.total_compressed_size, column.total_uncompressed_size)
                if column.physical_type == "BYTE_ARRAY" and column.has_dictionary_page:
                    stream.seek(column.dictionary_page_offset or 0)
                    largest = _page_size(stream.read(32)) or column.total_uncompressed_size
                    values = -(-column.num_values // max(1, group.num_rows))
                    rows = min(rows, _AT_ONCE // max(1, largest * max(1, values)))
    return max(1, rows)


def _check_ratio(file: str, packed: int, unpacked: int) -> None:
    if unpacked > max(_UNPACKED_FREELY, _UNPACKED_TIMES * packed):
        raise DataError(
            f"{file}: a part of {packed} bytes unpacks to {unpacked}, which texts do not; nothing "
            "of it is read: check where the file comes from"
        )


def _page_size(header: bytes) -> int | None:
    """The unpacked size in a page's header: Thrift's compact form, its first two fields numbers."""
    try:
        if header[0] != 0x15:
            return None
        _, at = _varint(header, 1)
        return _varint(header, at + 1)[0] >> 1 if header[at] == 0x15 else None
    except IndexError:
        return None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


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
