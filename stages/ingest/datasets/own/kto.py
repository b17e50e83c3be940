"""Unpaired preferences, as KTO learns from: an answer, and whether it is good or bad.

A comparison needs both: of each prompt the first good answer is put beside the first bad one, the
second beside the second, and so on, as they come in the file. What has no counterpart at the end of
the file goes to the table of unpaired answers, or is rejected; until then it is kept in memory.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from schemas.ids import prompt_id, turns_id
from schemas.labels import Message, Preference
from stages.ingest.datasets.config import KTODataset
from stages.ingest.datasets.own.prompts import answered
from stages.ingest.datasets.own.sided import beside
from stages.ingest.examples import (
    ComparisonExample,
    Example,
    RatedExample,
    RowError,
    check_comparison,
    field,
    optional_text,
    template_of,
)
from stages.ingest.frames.examples import EMPTY, examples_frame
from stages.ingest.readers.pieces import Piece, Readings
from stages.ingest.readers.raw_rows import RawRow
from stages.ingest.readers.sources import FileReader, Source

_SIGNS: Mapping[Any, bool] = {
    **{True: True, False: False},
    **dict.fromkeys(("true", "1", "good", "desirable", "yes", "+1"), True),
    **dict.fromkeys(("false", "0", "bad", "undesirable", "no", "-1"), False),
    -1: False,
}
Turns = Sequence[Message]


@dataclass(frozen=True)
class _Rated:
    """One row: an answer to a prompt, and whether it is good."""

    prompt: Turns
    completion: Turns
    good: bool
    row: Mapping[str, Any]


class KTOReader(FileReader[KTODataset]):
    """Rows of one answer each; a row that completes a pair is the comparison."""

    def __init__(self, config: KTODataset) -> None:
        super().__init__(config)
        self._waiting: dict[tuple[str, bool], deque[tuple[RawRow, _Rated]]] = {}
        """By prompt and sign, the answers without a counterpart so far."""

    def parse(self, row: Mapping[str, Any]) -> Example:
        """A row alone, which is no comparison yet. Raises RowError."""
        _rated(row)
        raise RowError("unpaired", "one answer, compared with none")

    def outcomes(self, origin: RawRow) -> Sequence[Example | RowError]:
        """The comparison that a row completes, or what is wrong with it; nothing where it waits."""
        if isinstance(origin.value, RowError):
            return [origin.value]
        try:
            return self._paired(origin, _rated(self.watched(origin.value)))
        except RowError as error:
            return [error]

    def _paired(self, origin: RawRow, rated: _Rated) -> Sequence[Example]:
        prompt = prompt_id(rated.prompt)
        others = self._waiting.get((prompt, not rated.good))
        if not others:
            self._waiting.setdefault((prompt, rated.good), deque()).append((origin, rated))
            return []
        _, other = others[0]
        chosen, rejected = (rated, other) if rated.good else (other, rated)
        if turns_id(chosen.completion) == turns_id(rejected.completion):
            raise RowError("contradictory_label", "the same answer is called good and bad")
        example = ComparisonExample(
            rated.prompt,
            chosen.completion,
            rejected.completion,
            Preference.A,
            chosen_first=True,
            template=template_of(rated.row),
            **beside(rated.row),
        )
        check_comparison(example, "chosen", "rejected")
        others.popleft()
        return [example]

    def sources(self, seed: int, split_of: Any) -> list[Source]:
        """What is read; each file ends with the answers that found no counterpart in it."""
        return [
            replace(source, closing=self._unpaired) for source in super().sources(seed, split_of)
        ]

    def _unpaired(self, next_row: int) -> Iterator[Piece]:
        waiting = sorted((one for each in self._waiting.values() for one in each), key=_row)
        self._waiting.clear()
        raws = {origin.row: origin for origin, _ in waiting}

        def readings() -> Readings:
            if self.config.left_over == "keep":
                return examples_frame([(o.row, _alone(rated)) for o, rated in waiting]), []
            said = "no answer of the other sign to the same prompt is left in the file"
            return EMPTY, [(row, RowError("unpaired", said)) for row in raws]

        if raws:
            yield Piece(readings, lambda row: raws[row].raw, next_row)


def _row(waiting: tuple[RawRow, _Rated]) -> int:
    return waiting[0].row


def _alone(rated: _Rated) -> RatedExample:
    row = rated.row
    beside = (optional_text(row, "category"), optional_text(row, "language"), template_of(row))
    return RatedExample(rated.prompt, rated.completion, rated.good, *beside)


def _rated(row: Mapping[str, Any]) -> _Rated:
    return _Rated(*answered(row), _sign(field(row, "label")), row)


def _sign(label: Any) -> bool:
    said = label.strip().lower() if isinstance(label, str) else label
    if not isinstance(said, str | bool | int | float) or said not in _SIGNS:
        raise RowError("unknown_label", f"label is {label!r}, must be true or false")
    return _SIGNS[said]
