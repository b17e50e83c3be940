"""What every judge is, whatever its kind."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from schemas.labels import Comparison, Verdict


class Judge(Protocol):
    """Says which of two completions is better.

    `name` is what tables call it. `fingerprint` names everything its verdicts depend on: settings
    and weights, 32 hex digits. One that is shown the layout of `evals.judges.layout` says so:
    `has_a_layout`.
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


@runtime_checkable
class StreamingJudge(Judge, Protocol):
    """A judge that is asked one by one, and whose answers outlive a killed process.

    `usage` holds running numbers for people (tokens, cost, calls), `warnings` what may spoil the
    result; both speak of the latest stream.
    """

    usage: Mapping[str, float]
    warnings: Sequence[str]

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The price of tokens, in the unit of the prices."""

    def stream(self, comparisons: Iterable[Comparison]) -> Iterator[tuple[int, Verdict]]:
        """Verdicts as they come, each with its comparison's number; takes what it needs only."""


def release(judge: Judge) -> None:
    """Give back what a judge holds only while it works, such as an engine; it may work again."""
    closing: Callable[[], None] | None = getattr(judge, "close", None)
    if closing is not None:
        closing()
