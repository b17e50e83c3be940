"""Finished work that outlives a change of settings: each piece under all that it depends on."""

from pathlib import Path

from schemas.files import remove
from schemas.ids import content_id


class KeptWork:
    """A folder of pieces of work; the name of each is the hash of what it was made from."""

    def __init__(self, folder: Path, *made_with: str) -> None:
        """`made_with` is what every piece depends on."""
        self.folder = folder
        self._made_with = made_with
        self._used: set[str] = set()

    def piece(self, kind: str, *made_from: str) -> Path:
        """The folder of a piece of work, which is there where some of it has been done."""
        name = content_id(kind, *self._made_with, *made_from)
        self._used.add(name)
        return self.folder / name

    def forget_others(self) -> None:
        """Remove the pieces that nobody has asked for."""
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.name not in self._used:
                remove(path)
