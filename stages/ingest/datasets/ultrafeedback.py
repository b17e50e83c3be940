"""UltraFeedback, binarized: a chosen and a rejected answer with a score each.

Read are the shapes of HuggingFaceH4 and trl-lib (conversations) and of argilla (plain answers,
or conversations with ratings).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from schemas.labels import Message, Preference
from stages.ingest.datasets.contamination import TRUTHFUL_QA, TruthfulQA, refuse_truthful_qa
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
from stages.ingest.readers.sources import FileDataset

if TYPE_CHECKING:
    import polars as pl

SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_avg_rating", "rejected_avg_rating"),
)
Turns = list[Message]
_ARGILLA = ("instruction", "chosen_response", "rejected_response")


class UltraFeedbackDataset(FileDataset):
    """HuggingFaceH4/ultrafeedback_binarized and its kin; equal scores are a Tie."""

    kind: Literal["ultrafeedback"] = Field(
        "ultrafeedback", description="UltraFeedback binarized (H4, trl-lib or argilla columns)"
    )
    truthful_qa: TruthfulQA = Field(
        "reject", description="prompts taken from TruthfulQA, an evaluation set: reject or keep"
    )

    columns: ClassVar[tuple[tuple[str, ...], ...]] = (("chosen", "rejected"), _ARGILLA)
    table_fields: ClassVar[tuple[str, ...]] = (
        *("chosen", "rejected", "prompt", "source", *_ARGILLA),
        *(name for pair in SCORES for name in pair),
    )

    def parse(self, row: Mapping[str, Any]) -> ComparisonExample:
        """One row as a comparison. Raises RowError."""
        refuse_truthful_qa(row, self.truthful_qa)
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

    def read_table(self, rows: "pl.DataFrame") -> "pl.DataFrame":
        """The rows without doubt, in whole columns."""
        from stages.ingest.frames import scores
        from stages.ingest.frames.conversations import read_conversations, read_texts

        if self.truthful_qa == "reject":
            rows = scores.without_sources(rows, TRUTHFUL_QA)
        rows = scores.labelled(rows, SCORES)
        rows = scores.beside(rows, category="source", label_source="model")
        if "instruction" in rows.columns:
            return read_texts(rows, *_ARGILLA)
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
    user, chosen, rejected = (text_field(row, name) for name in _ARGILLA)
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
