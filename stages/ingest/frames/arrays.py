"""A JSON array of rows as lines: each element on a line of its own, so that lines are all there is.

Line feeds become carriage returns, which are white space between tokens as they are, and as wrong
inside a text: JSON has escapes for both.
"""

import re
from collections.abc import Iterator
from typing import Protocol

# A text may go on past what has been read: what is in it so far is text, not brackets and commas.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)
_BREAKS = bytes.maketrans(b"\n", b"\r")
_WHITE = b" \t\r\n"
_NO_END = b"the array was cut off: no bracket ends it\n"


class ElementTooLongError(ValueError):
    """An element that goes on past what a row may have."""


class Stream(Protocol):
    """What can be read."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes, none at the end."""


def opens_array(start: bytes) -> bool:
    """Whether a file that begins like that is an array of objects, not lines of JSON.

    Lines may begin with a bracket too: what tells is what follows the first element. One that goes
    on past `start` is taken for an element of an array.
    """
    inside = start.lstrip(_WHITE)
    if not inside.startswith(b"["):
        return False
    inside = inside[1:].lstrip(_WHITE)
    if not inside.startswith(b"{"):
        return inside.startswith(b"]") and not inside[1:].strip(_WHITE)
    end = _element_end(inside, 0)
    after = b"" if end is None else inside[end:].lstrip(_WHITE)[:1]
    return end is None or after in (b",", b"]")


def _element_end(data: bytes, start: int) -> int | None:
    """Where the object or list that begins at `start` ends; None where it does not."""
    depth = 0
    for token in _TOKEN.finditer(data, start):
        sign = token[0][:1]
        depth += (sign in b"{[") - (sign in b"}]")
        if depth == 0 and sign != b'"':
            return token.end()
    return None


def array_lines(start: bytes, stream: Stream, size: int, longest: int) -> Iterator[bytes]:
    """Blocks of lines of about `size` bytes, one element a line; `start` has been read already.

    What follows the last whole element, in a file that was cut off or goes on after its array, is a
    line as it is. Where nothing follows, and no bracket ends the array, a line says so.

    Raises:
        ElementTooLongError: an element has more than `longest` bytes.
    """
    held = start.lstrip(_WHITE)[1:]
    del start
    while True:
        lines: list[bytes] = []
        begin = depth = 0
        for token in _TOKEN.finditer(held):
            sign = token[0][:1]
            if depth == 0 and sign in b",]":
                lines.append(_line(held[begin : token.start()]))
                begin = token.end()
                if sign == b"]":
                    held = held[begin:]
                    yield from _block(lines)
                    yield from _rest(held, stream, longest)
                    return
            else:
                depth += (sign in b"{[") - (sign in b"}]")
        held = held[begin:]
        yield from _block(lines)
        if len(held) > longest:
            raise ElementTooLongError
        more = stream.read(max(size, len(held)))
        if not more:
            yield from _block([_line(held), *_missing_end(held)])
            return
        held += more


def _missing_end(held: bytes) -> Iterator[bytes]:
    """A line that is none of a row, for a file that was cut off where no row shows it."""
    rest = held.strip(_WHITE)
    if not rest or _element_end(rest, 0) == len(rest):
        yield _NO_END


def _line(element: bytes) -> bytes:
    text = element.strip(_WHITE).translate(_BREAKS)
    return text + b"\n" if text else b""


def _block(lines: list[bytes]) -> Iterator[bytes]:
    """The lines as one, which are not held any longer."""
    data = b"".join(lines)
    lines.clear()
    if data:
        yield data


def _rest(held: bytes, stream: Stream, longest: int) -> Iterator[bytes]:
    """What stands behind the array, which should be nothing."""
    held = (held + stream.read(longest)).strip(_WHITE)
    if held:
        yield held + b"\n"
