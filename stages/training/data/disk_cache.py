"""Results that runs share on disk: each entry is whole, checked when it is read, and may be lost.

An entry is a folder `<root>/<key>/...` of files and a `seal.json` with their SHA-256. It is written
beside its place and renamed into it, so processes that work at once never see half of one; where
two write the same entry, the first stays. Deleting the root, or anything in it, costs time only:
files that somebody has mapped stay readable until they are closed.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from schemas.errors import BackendError, PipelineError
from schemas.files import SEAL, is_leftover, is_sound, remove, writing_folder
from schemas.hashes import cache_folder
from schemas.stage import StageContext

T = TypeVar("T")

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
        with self._adding(key, write) as writing:
            return read(writing)

    def put(self, key: str, write: Callable[[Path], None]) -> None:
        """Add an entry that `write` fills."""
        with self._adding(key, write):
            pass

    def entries(self, prefix: str) -> Iterator[Path]:
        """Folders of all sound entries right below `prefix`, by name."""
        for folder in sorted((self.root / prefix).glob("[!.]*")):
            if self._verified(folder) is not None:
                yield folder

    @contextmanager
    def _adding(self, key: str, write: Callable[[Path], None]) -> Iterator[Path]:
        """A new entry that `write` has filled; it gets its name when the block ends."""
        final = self.root / key
        with _disk_errors(final), writing_folder(final, sealed=True, shared=True) as writing:
            write(writing)
            yield writing
        self._make_room(final)

    def _verified(self, folder: Path) -> Path | None:
        """The folder where its seal holds; a damaged entry is dropped."""
        if not folder.is_dir():
            return None
        if not is_sound(folder):
            _drop(folder)
            return None
        with suppress(OSError):
            os.utime(folder / SEAL)
        return folder

    def _make_room(self, newest: Path) -> None:
        """Drop what was used longest ago until the rest fits; `newest` stays whatever it weighs."""
        found, total = [], 0
        for where, folders, files in os.walk(self.root):
            for name in filter(is_leftover, folders):
                if time.time() - _used_at(Path(where) / name) > _ABANDONED_AFTER_SECONDS:
                    _drop(Path(where) / name)
            folders[:] = [name for name in folders if not is_leftover(name)]
            if SEAL in files:
                found.append((_used_at(Path(where) / SEAL), Path(where)))
        for _, folder in sorted(found, key=lambda entry: (-entry[0], str(entry[1]))):
            total += _bytes_of(folder)
            if folder != newest and total > self.max_bytes:
                _drop(folder)


def open_cache(context: StageContext) -> DiskCache:
    """The cache of `runtime.cache_dir`; else of $PREFLINE_CACHE, $XDG_CACHE_HOME or ~/.cache.

    Where that cannot be written, `.cache` in the run directory takes its place.
    """
    runtime = context.runtime
    named = runtime.cache_dir
    root = Path(named).expanduser().absolute() if named else cache_folder()
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
    with suppress(OSError):
        remove(folder)


def _used_at(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _bytes_of(folder: Path) -> int:
    with suppress(OSError):
        return sum(p.stat().st_size for p in folder.iterdir())
    return 0
