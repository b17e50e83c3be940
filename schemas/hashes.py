"""Hashes of files that are read again and again: computed once as long as a file stays as it is.

A file is known by device, inode, size, and the times of its last change of content and of state;
nobody can set the last of these. What is known outlives the process, in a file of the user's cache
folder that may be lost, damaged or deleted: it costs a second reading, no more.
"""

import os
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from schemas.files import read_record
from schemas.ids import file_sha256

Identity = tuple[int, int, int, int, int]

MEMORY = "hashes.txt"
# A change so soon after another may leave the times as they are: what is young is not remembered.
_YOUNG_NS = 100_000_000
_MOST_LINES = 100_000


def known_sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits; read anew only where the file has changed.

    Raises:
        MissingInputError: no such file.
    """
    memory = _memory(cache_folder())
    with suppress(OSError):
        identity = _identity(path)
        known = memory.get(identity)
        if known is not None:
            return known
        digest = file_sha256(path)
        if _identity(path) == identity and time.time_ns() - identity[4] > _YOUNG_NS:
            memory[identity] = digest
            _append(cache_folder() / MEMORY, identity, digest)
        return digest
    return file_sha256(path)


def cache_folder() -> Path:
    """The folder that runs share: $PREFLINE_CACHE, else prefline/ in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("PREFLINE_CACHE") or f"{home}/prefline").expanduser().absolute()


def _identity(path: Path) -> Identity:
    found = path.stat()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@cache
def _memory(folder: Path) -> dict[Identity, str]:
    with suppress(OSError, UnicodeDecodeError):
        found = dict(_lines(read_record(folder / MEMORY).decode("ascii")))
        if len(found) > _MOST_LINES:
            (folder / MEMORY).unlink()
        return found
    return {}


def _lines(text: str) -> Iterator[tuple[Identity, str]]:
    for line in text.splitlines():
        said, _, check = line.rpartition(" ")
        if check != _check(said):
            continue  # torn, or two processes' lines in one
        *numbers, digest = said.split(" ")
        device, inode, size, mtime, ctime = map(int, numbers)
        yield (device, inode, size, mtime, ctime), digest


def _append(path: Path, identity: Identity, digest: str) -> None:
    said = " ".join([*map(str, identity), digest])
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # A newline first: what a killed process has left of its line spoils no other.
            os.write(descriptor, f"\n{said} {_check(said)}\n".encode("ascii"))
        finally:
            os.close(descriptor)


def _check(said: str) -> str:
    return f"{zlib.crc32(said.encode()):08x}"
