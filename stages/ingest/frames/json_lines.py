"""Lines of JSON objects whose values are all strings, found and cut out without a JSON parser.

One pass over the bytes notes every quote, backslash and control character; what follows works on
those few places. A line is flat if, between its structural quotes, there is nothing but the
expected keys and separators, and if every escape in it is one of the eight two-byte ones. Such a
line is a JSON object of exactly these keys, each once, with string values: there is nothing left
for a parser to decide but whether the bytes are UTF-8.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stages.ingest.frames.texts import Places, Texts

_QUOTE, _BACKSLASH, _NEWLINE, _RETURN, _SPACE, _N = b'"\\\n\r n'
_STRETCH = 1 << 18  # bytes that are looked at in one go: they stay in the cache
_ESCAPABLE = np.zeros(256, bool)
_ESCAPABLE[list(b'nrtbf"/\\')] = True


@dataclass(frozen=True)
class Lines:
    """The lines of a block: where each begins and ends (at its newline)."""

    data: bytes
    starts: Places
    ends: Places
    # Places of all quotes that no backslash takes the meaning from; line i has
    # quotes[first_quote[i]:first_quote[i + 1]].
    quotes: Places
    first_quote: Places
    # Places of the escapes that stand for line feeds.
    breaks: Places
    # Lines with a control character, or with an escape other than the two-byte ones.
    odd: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.starts)

    def line(self, index: int) -> bytes:
        """One line without its newline."""
        return self.data[self.starts[index] : self.ends[index]]

    @cached_property
    def bytes(self) -> NDArray[np.uint8]:
        """The block as numbers."""
        return np.frombuffer(self.data, np.uint8)


def scan(data: bytes) -> Lines:
    """Find lines, structural quotes and odd characters of a block that ends with a newline."""
    codes = np.frombuffer(data, np.uint8)
    stretches = range(0, len(codes), _STRETCH)
    places = np.concatenate([at + _special(codes[at : at + _STRETCH]) for at in stretches])
    kinds = codes[places]
    ends = places[kinds == _NEWLINE]
    odd = np.zeros(len(ends), bool)
    escapes = _escapes(places[kinds == _BACKSLASH])
    escaped_codes = codes[escapes + 1]
    odd[np.searchsorted(ends, escapes[~_ESCAPABLE[escaped_codes]])] = True
    odd[np.searchsorted(ends, _controls(codes, places, kinds))] = True
    quotes = places[kinds == _QUOTE]
    after_backslash = codes[np.maximum(quotes - 1, 0)] == _BACKSLASH
    escaped = np.zeros(len(quotes), bool)
    escaped[after_backslash] = _among(quotes[after_backslash] - 1, escapes)
    quotes = quotes[~escaped]
    first_quote = np.concatenate(([0], np.searchsorted(quotes, ends)))
    starts = np.concatenate(([0], ends[:-1] + 1))
    breaks = escapes[escaped_codes == _N]
    return Lines(data, starts, ends, quotes, first_quote, breaks, odd)


def _special(codes: NDArray[np.uint8]) -> Places:
    special = codes == _QUOTE
    special |= codes == _BACKSLASH
    special |= codes < _SPACE
    return np.flatnonzero(special)


def _escapes(backslashes: Places) -> Places:
    """The backslashes that begin an escape: the odd ones of every run."""
    if not len(backslashes) or not (begins := np.diff(backslashes, prepend=-2) != 1).size:
        return backslashes
    if begins.all():
        return backslashes
    run_starts = np.maximum.accumulate(np.where(begins, backslashes, 0))
    odd: Places = backslashes[(backslashes - run_starts) % 2 == 0]
    return odd


def _controls(codes: NDArray[np.uint8], places: Places, kinds: NDArray[np.uint8]) -> Places:
    """Control characters inside lines; a carriage return at a line's end is not inside."""
    found = places[(kinds < _SPACE) & (kinds != _NEWLINE)]
    at_end = (codes[found] == _RETURN) & (codes[np.minimum(found + 1, len(codes) - 1)] == _NEWLINE)
    inside: Places = found[~at_end]
    return inside


def _among(values: Places, ordered: Places) -> NDArray[np.bool_]:
    if not len(ordered):
        return np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: NDArray[np.bool_] = ordered[at] == values
    return found


def keys_of(lines: Lines, wanted: Sequence[str]) -> list[str] | None:
    """The keys of the first line that is an object of strings and has all of `wanted`."""
    for index in range(min(len(lines), 100)):
        try:
            row = json.loads(lines.line(index))
        except (ValueError, RecursionError):
            continue
        if (
            isinstance(row, dict)
            and set(wanted) <= set(row)
            and all(isinstance(value, str) for value in row.values())
        ):
            return list(row)
    return None


def flat_texts(lines: Lines, keys: Sequence[str]) -> tuple[Places, dict[str, Texts]]:
    """The indices of the flat lines with exactly these keys in this order, and their values."""
    indices, quotes = _flat(lines, keys)
    return indices, {
        key: Texts(lines.data, quotes[:, at] + 1, quotes[:, at + 1], lines.breaks, escaped=True)
        for key, at in zip(keys, range(2, 4 * len(keys), 4), strict=True)
    }


def _flat(lines: Lines, keys: Sequence[str]) -> tuple[Places, Places]:
    """Indices of flat lines, and their structural quotes, [lines, 4 * keys]."""
    count = 4 * len(keys)
    indices = np.flatnonzero((np.diff(lines.first_quote) == count) & ~lines.odd)
    quotes = lines.quotes[lines.first_quote[indices][:, None] + np.arange(count)]
    ends = lines.ends[indices]
    ends = ends - (lines.bytes[np.maximum(ends - 1, 0)] == _RETURN)
    good = ends - quotes[:, -1] == 2
    good &= lines.bytes[np.maximum(ends - 1, 0)] == ord("}")
    before = lines.starts[indices]
    for place, key in enumerate(keys):
        opening = "{" if place == 0 else '", '
        good &= _reads(lines.bytes, before, quotes[:, 4 * place + 2] + 1, opening, key)
        before = quotes[:, 4 * place + 3]
    return indices[good], quotes[good]


def _reads(
    codes: NDArray[np.uint8], starts: Places, ends: Places, opening: str, key: str
) -> NDArray[np.bool_]:
    """Whether the bytes are the way to a value: `{"key": "` or `", "key": "`, spaced or not."""
    spaced = f'{opening}"{key}": "'
    found = np.zeros(len(starts), bool)
    for text in {spaced, spaced.replace(", ", ",", 1).replace(": ", ":", 1)}:
        literal = np.frombuffer(text.encode(), np.uint8)
        rows = np.flatnonzero(ends - starts == len(literal))
        found[rows] |= (codes[starts[rows][:, None] + np.arange(len(literal))] == literal).all(1)
    return found
