"""The columns that hold two answers, under the names that people use."""

from dataclasses import dataclass

STEMS = ("completion", "response", "answer", "output", "generation")
_ENDINGS = (("_a", "_b"), ("_A", "_B"), ("_1", "_2"), ("1", "2"), ("_0", "_1"))
_RATINGS = ("score", "rating")


@dataclass(frozen=True)
class Sides:
    """The columns of two answers; `endings` are what tells them apart."""

    stem: str
    endings: tuple[str, str]

    @property
    def names(self) -> tuple[str, str]:
        """Both columns."""
        return f"{self.stem}{self.endings[0]}", f"{self.stem}{self.endings[1]}"

    @property
    def ratings(self) -> tuple[tuple[str, str], ...]:
        """Columns that may rate them."""
        first, second = self.endings
        return tuple((f"{name}{first}", f"{name}{second}") for name in _RATINGS)


SIDES = tuple(Sides(stem, endings) for stem in STEMS for endings in _ENDINGS)
SIDED_COLUMNS = tuple(dict.fromkeys(name for sides in SIDES for name in sides.names))
SIDED_SETS = tuple(sides.names for sides in SIDES)
"""Pairs of columns of which a table of sided rows has one."""
