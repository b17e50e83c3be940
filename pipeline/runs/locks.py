"""One writer per stage and one `run` per run directory, by advisory file locks.

A lock dies with its process, so a killed run never leaves one behind.
"""

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from schemas.errors import ConfigError, RunLockedError
from schemas.files import refuse_remote


@contextmanager
def run_lock(run_dir: Path, *, whole: bool) -> Iterator[None]:
    """Hold a run directory: all of it (`prefline run`), or a share of it (one stage).

    Raises:
        RunLockedError: another process holds what is asked for.
    """
    with _lock(run_dir, "run", fcntl.LOCK_EX if whole else fcntl.LOCK_SH):
        yield


@contextmanager
def stage_lock(run_dir: Path, stage: str) -> Iterator[None]:
    """Hold one stage of a run directory. Raises RunLockedError where another process has it."""
    with _lock(run_dir, stage, fcntl.LOCK_EX):
        yield


def is_held(run_dir: Path, stage: str) -> bool:
    """Whether a process is at work on a stage at this moment."""
    try:
        with _open(run_dir / ".locks" / stage) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (OSError, ConfigError):
        return False
    return False


@contextmanager
def _lock(run_dir: Path, name: str, mode: int) -> Iterator[None]:
    folder = run_dir / ".locks"
    refuse_remote(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with _open(folder / name, "a+") as file:
        try:
            _take(file, mode)
        except BlockingIOError as error:
            what = run_dir if name == "run" else run_dir / name
            raise RunLockedError(
                f"{what}: {_holder(folder, name)} is working here; wait for it, or use another "
                "--run-dir"
            ) from error
        if mode == fcntl.LOCK_EX:
            file.truncate(0)
            file.write(f"process {os.getpid()}")
            file.flush()
        yield


def _open(path: Path, mode: Literal["r", "a+"] = "r") -> IO[str]:
    """A lock's file: a link in its place is not followed, and a pipe not waited for.

    Raises:
        ConfigError: it is no plain file.
    """
    flags = os.O_RDONLY if mode == "r" else os.O_RDWR | os.O_CREAT | os.O_APPEND
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ConfigError(f"{path}: not a plain file, but a lock of ours belongs there; move it")
    return os.fdopen(descriptor, mode)


_LOOKS = 20
_BETWEEN_LOOKS = 0.05  # seconds


def _take(file: IO[str], mode: int) -> None:
    """Take a lock, past those who only look whether it is held: they have it for a moment.

    Raises:
        BlockingIOError: it was held all the while.
    """
    for _ in range(_LOOKS):
        try:
            fcntl.flock(file, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_BETWEEN_LOOKS)
        else:
            return
    fcntl.flock(file, mode | fcntl.LOCK_NB)


def _holder(folder: Path, name: str) -> str:
    """Who holds a lock alone: the one asked for or, where that is shared, any of the stages'."""
    others = sorted(path.name for path in folder.iterdir() if path.name != name)
    for candidate in [name, *others]:
        with _open(folder / candidate) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "another process"
    return "another process"
