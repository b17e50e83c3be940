"""UltraFeedback, binarized: a chosen and a rejected answer with a score each.

Read are the shapes of HuggingFaceH4 and trl-lib (conversations) and of argilla (plain answers,
or conversations with ratings).
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import polars as pl

from schemas.labels import Message, Preference
from stages.ingest.datasets.config import ARGILLA, UltraFeedbackDataset
from stages.ingest.examples import (
    ComparisonExample,
    RowError,
    check_comparison,
    messages_field,
    number_field,
    optional_text,
    split_history,
    text_field,
)
from stages.ingest.filters.contamination import TRUTHFUL_QA, refuse_truthful_qa
from stages.ingest.frames import scores
from stages.ingest.frames.conversations import read_conversations, read_texts
from stages.ingest.readers.sources import FileReader

SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_avg_rating", "rejected_avg_rating"),
    ("chosen_rating", "rejected_rating"),
    ("chosen_score", "rejected_score"),
    ("rating_chosen", "rating_rejected"),
)
Turns = list[Message]


class UltraFeedbackReader(FileReader[UltraFeedbackDataset]):
    """Rows of UltraFeedback."""

    table_fields: ClassVar[tuple[str, ...]] = (
        *("chosen", "rejected", "prompt", "source", *ARGILLA),
        *(name for pair in SCORES for name in pair),
    )

    def parse(self, row: Mapping[str, Any]) -> ComparisonExample:
        """One row as a comparison. Raises RowError."""
        refuse_truthful_qa(row, self.config.truthful_qa)
        label, strength = scored_label(row, required=True)
        prompt, chosen, rejected = _plain(row) if "instruction" in row else _conversations(row)
        example = ComparisonExample(
            prompt,
            chosen,
            rejected,
            label,
            strength,
            category=optional_text(row, "source"),
            label_source="model",
            chosen_first=True,
        )
        return check_comparison(example, "chosen", "rejected")

    def read_table(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows without doubt, in whole columns."""
        if self.config.truthful_qa == "reject":
            rows = scores.without_sources(rows, TRUTHFUL_QA)
        rows = scores.labelled(rows, SCORES)
        rows = scores.beside(rows, category="source", label_source="model")
        if "instruction" in rows.columns:
            return read_texts(rows, *ARGILLA)
        return read_conversations(rows, stated="prompt")


def scored_label(row: Mapping[str, Any], *, required: bool) -> tuple[Preference, float | None]:
    """Label and strength by the scores of chosen and rejected; equal scores are a Tie.

    Where scores are not `required`, none at all means that chosen is better by nobody knows how
    much.

    Raises:
        RowError: a score is no number, the rejected answer's is higher, or none is there.
    """
    names = next((pair for pair in SCORES if pair[0] in row or pair[1] in row), None)
    if not required and (names is None or all(row.get(name) is None for name in names)):
        return Preference.A, None
    if names is None:
        raise RowError("missing_field", "score_chosen is not there")
    chosen, rejected = (number_field(row, name) for name in names)
    if chosen < rejected:
        raise RowError("scores_contradict", f"{names[0]} {chosen:g} < {names[1]} {rejected:g}")
    return (Preference.A if chosen > rejected else Preference.TIE), chosen - rejected


def _plain(row: Mapping[str, Any]) -> tuple[Turns, Turns, Turns]:
    user, chosen, rejected = (text_field(row, name) for name in ARGILLA)
    return (
        [{"role": "user", "content": user}],
        [{"role": "assistant", "content": chosen}],
        [{"role": "assistant", "content": rejected}],
    )


def _conversations(row: Mapping[str, Any]) -> tuple[Turns, Turns, Turns]:
    prompt, chosen, rejected = split_history(
        messages_field(row, "chosen"), messages_field(row, "rejected")
    )
    stated = optional_text(row, "prompt")
    if stated is not None and stated not in [t["content"] for t in prompt if t["role"] == "user"]:
        raise RowError("prompt_mismatch", "prompt is not what the user says in chosen")
    return prompt, chosen, rejected
