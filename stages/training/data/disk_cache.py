"""Results that runs share on disk: each entry is whole, checked when it is read, and may be lost.

An entry is a folder `<root>/<key>/...` of files and a `seal.json` with their SHA-256. It is written
beside its place and renamed into it, so processes that work at once never see half of one; where
two write the same entry, the first stays. Deleting the root, or anything in it, costs time only:
files that somebody has mapped stay readable until they are closed.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TypeVar

from schemas.errors import BackendError, PipelineError
from schemas.ids import file_sha256
from schemas.stage import StageContext

T = TypeVar("T")

SEAL = "seal.json"
_ABANDONED_AFTER_SECONDS = 86_400


@dataclass(frozen=True)
class DiskCache:
    """Entries below `root`; the least recently used are dropped beyond `max_bytes`."""

    root: Path
    max_bytes: int

    def get(self, key: str, write: Callable[[Path], None], read: Callable[[Path], T]) -> T:
        """What `read` makes of the entry's folder, which `write` fills where there is none.

        `key` is a relative path; it must say everything that the content follows from.
        """
        folder = self._verified(self.root / key)
        if folder is not None:
            with suppress(FileNotFoundError):  # another process has just made room
                return read(folder)
        writing = self._write(key, write)
        value = read(writing)
        self._publish(writing, self.root / key)
        return value

    def put(self, key: str, write: Callable[[Path], None]) -> None:
        """Add an entry that `write` fills."""
        self._publish(self._write(key, write), self.root / key)

    def entries(self, prefix: str) -> Iterator[Path]:
        """Folders of all sound entries right below `prefix`, by name."""
        for folder in sorted((self.root / prefix).glob("[!.]*")):
            if self._verified(folder) is not None:
                yield folder

    def _write(self, key: str, write: Callable[[Path], None]) -> Path:
        final = self.root / key
        writing = final.with_name(f".{final.name}.{os.getpid()}-{token_hex(4)}.writing")
        try:
            with _disk_errors(writing):
                writing.mkdir(parents=True)
                write(writing)
                seal = {p.name: file_sha256(p) for p in sorted(writing.iterdir())}
                (writing / SEAL).write_text(json.dumps(seal), encoding="utf-8")
        except BaseException:
            shutil.rmtree(writing, ignore_errors=True)
            raise
        return writing

    def _publish(self, writing: Path, final: Path) -> None:
        try:
            os.rename(writing, final)
        except OSError:  # the same entry by another process, or no room: this one is not needed
            shutil.rmtree(writing, ignore_errors=True)
        self._make_room(final)

    def _verified(self, folder: Path) -> Path | None:
        """The folder where its seal holds; a damaged entry is dropped."""
        if not folder.is_dir():
            return None
        try:
            seal = json.loads((folder / SEAL).read_text(encoding="utf-8"))
            sound = all(file_sha256(folder / name) == digest for name, digest in seal.items())
        except (OSError, ValueError, AttributeError):
            sound = False
        if not sound:
            _drop(folder)
            return None
        with suppress(OSError):
            os.utime(folder / SEAL)
        return folder

    def _make_room(self, newest: Path) -> None:
        """Drop what was used longest ago until the rest fits; `newest` stays whatever it weighs."""
        folders = [Path(where) for where, _, files in os.walk(self.root) if SEAL in files]
        found = [(_used_at(folder / SEAL), folder) for folder in folders]
        now, total = time.time(), 0
        for used_at, folder in sorted(found, key=lambda entry: (-entry[0], str(entry[1]))):
            abandoned = folder.name.startswith(".") and now - used_at > _ABANDONED_AFTER_SECONDS
            total += _bytes_of(folder)
            if folder != newest and (abandoned or total > self.max_bytes):
                _drop(folder)


def open_cache(context: StageContext) -> DiskCache:
    """The cache of `runtime.cache_dir`; else of $PREFLINE_CACHE, $XDG_CACHE_HOME or ~/.cache.

    Where that cannot be written, `.cache` in the run directory takes its place.
    """
    runtime, home = context.runtime, os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    named = runtime.cache_dir or os.environ.get("PREFLINE_CACHE") or f"{home}/prefline"
    root = Path(named).expanduser().absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
        writable = os.access(root, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if not writable:
        context.progress.note(f"{root} cannot be written, so nothing is shared with other runs")
        root = context.output.parent.absolute() / ".cache"
    return DiskCache(root, int(runtime.cache_max_gb * 1e9))


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except PipelineError:
        raise
    except OSError as error:
        raise BackendError(
            f"{folder.parent}: cannot be written ({error.strerror or error}); make room there, or "
            "set runtime.cache_dir to another folder"
        ) from error


def _drop(folder: Path) -> None:
    """Remove an entry; nobody ever sees a part of it."""
    trash = folder.with_name(f".{folder.name}.{token_hex(4)}.dropped")
    with suppress(OSError):
        os.rename(folder, trash)
        shutil.rmtree(trash, ignore_errors=True)


def _used_at(seal: Path) -> float:
    with suppress(OSError):
        return seal.stat().st_mtime
    return 0.0


def _bytes_of(folder: Path) -> int:
    with suppress(OSError):
        return sum(p.stat().st_size for p in folder.iterdir())
    return 0
