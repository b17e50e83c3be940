"""NVIDIA HelpSteer3 (`preference`): two responses, rated from -3 (first better) to 3 (second)."""

from collections.abc import Mapping
from typing import Any

from schemas.labels import Message, Preference
from stages.ingest.datasets.config import HelpSteer3Dataset
from stages.ingest.examples import (
    Annotation,
    ComparisonExample,
    RowError,
    check_comparison,
    messages_field,
    number_field,
    optional_text,
    text_field,
)
from stages.ingest.readers.sources import FileReader

_LIMIT = 3


class HelpSteer3Reader(FileReader[HelpSteer3Dataset]):
    """Rows of HelpSteer3."""

    def parse(self, row: Mapping[str, Any]) -> ComparisonExample:
        """One row as a comparison. Raises RowError."""
        score = _score(row, "overall_preference")
        example = ComparisonExample(
            _context(row),
            [{"role": "assistant", "content": text_field(row, "response1")}],
            [{"role": "assistant", "content": text_field(row, "response2")}],
            label=_label(score),
            strength=abs(score),
            annotations=_annotations(row),
            category=optional_text(row, "domain"),
            language=optional_text(row, "language"),
        )
        return check_comparison(example, "response1", "response2")


def _context(row: Mapping[str, Any]) -> list[Message]:
    context = messages_field(row, "context")
    if not context:
        raise RowError("empty_prompt", "context has no turns")
    if context[-1]["role"] != "user":
        raise RowError("prompt_ends_with_answer", "context does not end with the user")
    return context


def _score(row: Mapping[str, Any], name: str) -> float:
    score = number_field(row, name)
    if score != int(score) or abs(score) > _LIMIT:
        raise RowError("score_out_of_range", f"{name} is {score:g}, must be -3, -2, ... or 3")
    return score


def _label(score: float) -> Preference:
    if score == 0:
        return Preference.TIE
    return Preference.A if score < 0 else Preference.B


def _annotations(row: Mapping[str, Any]) -> list[Annotation]:
    """One per annotator; older copies have no such column, or no feedback in it.

    `reasoning` speaks of "@Response 1" and "@Response 2": these are A and B, whose sides are kept.
    """
    listed = row.get("individual_preference") or []
    if not isinstance(listed, list) or not all(isinstance(a, Mapping) for a in listed):
        raise RowError("wrong_type", "individual_preference must be a list of objects")
    scores = [_score(annotation, "score") for annotation in listed]
    return [
        Annotation(
            _label(score),
            abs(score),
            optional_text(annotation, "reasoning"),
            feedback_a=optional_text(annotation, "feedback1"),
            feedback_b=optional_text(annotation, "feedback2"),
        )
        for score, annotation in zip(scores, listed, strict=True)
    ]
