"""The trivial judge that every other one must beat: the longer completion wins."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evals.judges.interface import Judge
from evals.judges.kinds.rule import certain
from evals.judges.layout import answer_text
from schemas.ids import content_id
from schemas.labels import Comparison, Messages, Preference, Verdict
from schemas.stage import Config, Runtime


class LengthJudge(Config):
    """The longer completion wins; equal lengths are a tie.

    Length is counted in characters (Unicode code points) between the first and the last that can be
    seen.
    """

    kind: Literal["length"] = "length"

    def open(self, folder: Path | None, runtime: Runtime) -> Judge:
        """The judge; there is nothing to load."""
        return LongerWins()


@dataclass(frozen=True)
class LongerWins:
    """Gives its label probability 1."""

    name: str = "length"
    fingerprint: str = content_id("judge", "length", "1")

    def judge(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        """One certain verdict per comparison."""
        return [certain(longer(c.completion_a, c.completion_b)) for c in comparisons]


def longer(completion_a: Messages, completion_b: Messages) -> Preference:
    """The label of the longer completion; Tie where both have as many characters."""
    length_a, length_b = (len(answer_text(c).strip()) for c in (completion_a, completion_b))
    if length_a == length_b:
        return Preference.TIE
    return Preference.A if length_a > length_b else Preference.B
