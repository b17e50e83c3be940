"""What a stage is about to do, as far as it can be known before it is done."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Known = Mapping[str, Mapping[str, int]]
"""Counts of the stages that a stage reads: of their manifests, or as estimated. By stage."""


@dataclass(frozen=True)
class Work:
    """The work of a stage; None where nobody can know yet.

    Attributes:
        unit: what is counted, and the count's name in the stage's manifest, whose wall time then
            tells how long one of them takes.
        units: how many, at most.
        tokens: how many are read and written for it, at most.
        counts: what the stage is expected to leave, for the stages that read it.
    """

    unit: str
    units: int | None = None
    tokens: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Bill:
    """The peak memory of a stage's process, above what an idle one with its libraries takes.

    Attributes:
        parts: bytes by what they are for, at the moment when most is taken.
        about: what it is the bill of, in words: lengths and batches that it holds for.
        cheaper: settings that would take less, each with the bytes that it would then take;
            the first that fits is what to change.
        refusal: why the stage will refuse work of this size; empty where it will not.
    """

    parts: Mapping[str, int]
    about: str = ""
    cheaper: Mapping[str, int] = field(default_factory=dict)
    refusal: str = ""

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())


def at_most(count: int | None, limit: int | None) -> int | None:
    """The smaller of a count and a limit; None where the count is not known and unlimited."""
    found = [n for n in (count, limit) if n is not None]
    return min(found) if found else None
