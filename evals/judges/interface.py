"""What every judge is, whatever its kind."""

from collections.abc import Sequence
from typing import Protocol

from schemas.labels import Comparison, Verdict


class Judge(Protocol):
    """Says which of two completions is better.

    `name` is what tables call it. `fingerprint` names everything its verdicts depend on: settings
    and weights, 32 hex digits.
    """

    @property
    def name(self) -> str:
        """What tables call this judge; unique within one evaluation."""

    @property
    def fingerprint(self) -> str:
        """Hash of settings and weights."""

    def judge(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        """One verdict per comparison, each shown as it stands, in the order given.

        A comparison it cannot judge is `Unscored` with a reason; nothing is dropped or guessed.
        """
