"""Pairs of a file about which somebody has said which answer is better."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from evals.files.outputs.outputs import output_pairs
from schemas.ids import comparison_id, prompt_id
from schemas.labels import Comparison, LabeledComparison, Message


@dataclass(frozen=True)
class LabelledPairs:
    """Labelled comparisons by their id."""

    units: Mapping[str, LabeledComparison]

    def among(self, judged: Collection[str]) -> list[LabeledComparison]:
        """Those that were judged, in the order in which they were shown there, sorted by id."""
        found = []
        for key, unit in self.units.items():
            shown = unit.comparison
            other = comparison_id(shown.prompt, shown.completion_b, shown.completion_a)
            if key in judged:
                found.append(unit)
            elif other in judged:
                swapped = unit.swap().comparison
                again = Comparison(
                    other, swapped.prompt_id, swapped.prompt, swapped.completion_a,
                    swapped.completion_b,
                )  # fmt: skip
                found.append(LabeledComparison(again, unit.label.swap()))
        return sorted(found, key=lambda unit: unit.comparison.comparison_id)


def labelled_pairs(path: Path) -> LabelledPairs:
    """The labelled pairs of a file; none where its rows are no pairs, or without labels.

    Raises:
        MissingInputError, DataError: the file cannot be read, or a label says neither side.
    """
    units: dict[str, LabeledComparison] = {}
    for prompt, (a, b), label in output_pairs(path):
        first: list[Message] = [{"role": "assistant", "content": a}]
        second: list[Message] = [{"role": "assistant", "content": b}]
        key = comparison_id(prompt, first, second)
        comparison = Comparison(key, prompt_id(prompt), prompt, first, second)
        units.setdefault(key, LabeledComparison(comparison, label))
    return LabelledPairs(units)
