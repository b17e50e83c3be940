"""A published number beside ours, and a folder's or a git directory's files."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.files.opening.json_rows import json_object
from schemas.errors import DataError, MissingInputError


@dataclass(frozen=True)
class Number:
    """A number as it was published, as we compute it, and how far apart they may be.

    `group` and `what` name it: whose it is and what it measures. `published` is None where nobody
    has published one, so that ours stands alone.
    """

    group: str
    what: str
    published: float | None
    ours: float
    tolerance: float

    @property
    def difference(self) -> float | None:
        """Ours less the published one."""
        return None if self.published is None else self.ours - self.published

    def holds(self, tolerance: float | None = None) -> bool:
        """Whether it is reproduced; a number that is not finite never is."""
        if self.difference is None:
            return True
        return abs(self.difference) <= (self.tolerance if tolerance is None else tolerance)


class Files:
    """The files below a folder, or of the newest commit of a git directory, by their paths there.

    Raises:
        MissingInputError: nothing is there.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise MissingInputError(f"{path}: no such folder; correct its path")
        self.path = path
        self._bare = (path / "HEAD").is_file() and (path / "objects").is_dir()

    def matching(self, pattern: str, hint: str) -> Sequence[str]:
        """Paths that match, sorted.

        Raises:
            MissingInputError: there are none; the message has the hint.
        """
        found = sorted(name for name in self.names if fnmatch(name, pattern))
        if not found:
            raise MissingInputError(f"{self.path}: holds no {pattern}; {hint}")
        return found

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            DataError: it is listed and not there.
        """
        if not self._bare:
            return (self.path / name).read_bytes()
        return self._git("cat-file", "blob", f"HEAD:{name}")

    def json_lines(self, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """The rows of a file of JSON lines, each with its number from 0.

        Raises:
            DataError: a line is no JSON object, or the file is not there.
        """
        for number, line in enumerate(self.read(name).decode("utf-8", "replace").split("\n")):
            if line.strip():
                yield number, json_object(line, f"{self.path}: {name}: row {number}")

    @cached_property
    def names(self) -> list[str]:
        """Paths of all files."""
        if self._bare:
            return self._git("ls-tree", "-r", "-z", "--name-only", "HEAD").decode().split("\0")
        below = (path for path in self.path.rglob("*") if path.is_file())
        return [path.relative_to(self.path).as_posix() for path in below]

    def _git(self, *words: str) -> bytes:
        command = ["git", "--git-dir", str(self.path), *words]
        try:
            done = subprocess.run(command, capture_output=True, check=True)
        except FileNotFoundError as error:
            raise MissingInputError(
                f"{self.path}: is a git directory, and git is not installed; give a folder"
            ) from error
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().splitlines()
            raise DataError(f"{self.path}: git: {said[0] if said else error}") from error
        return done.stdout
