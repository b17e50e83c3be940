"""A published number beside ours, and a folder's or a git directory's files."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from schemas.errors import DataError, MissingInputError


@dataclass(frozen=True)
class Number:
    """A number as it was published, as we compute it, and how far apart they may be.

    `group` and `what` name it: whose it is and what it measures.
    """

    group: str
    what: str
    published: float
    ours: float
    tolerance: float

    @property
    def difference(self) -> float:
        """Ours less the published one."""
        return self.ours - self.published

    def holds(self, tolerance: float | None = None) -> bool:
        """Whether it is reproduced; a number that is not finite never is."""
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
        found = sorted(name for name in self._names() if fnmatch(name, pattern))
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

    def _names(self) -> list[str]:
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
