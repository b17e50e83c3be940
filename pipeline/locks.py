"""One writer per stage and one `run` per run directory, by advisory file locks.

A lock dies with its process, so a killed run never leaves one behind.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import RunLockedError


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


@contextmanager
def _lock(run_dir: Path, name: str, mode: int) -> Iterator[None]:
    folder = run_dir / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a+") as file:
        try:
            fcntl.flock(file, mode | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            what = run_dir if name == "run" else run_dir / name
            raise RunLockedError(
                f"{what}: {holder} is working here; wait for it, or use another --run-dir"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield
