"""Rows that name their sides: the cookbook's lines, our own tables, and what is like them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from schemas.labels import Preference
from stages.ingest.datasets.config import PROMPT_FIELDS
from stages.ingest.datasets.own.prompts import completion_field, stated_prompt
from stages.ingest.datasets.own.sides import Sides
from stages.ingest.datasets.own.spellings import preference
from stages.ingest.examples import (
    Annotation,
    ComparisonExample,
    RowError,
    check_comparison,
    field,
    messages_field,
    number_field,
    optional_text,
    template_of,
    text_field,
)


def parse_sided(row: Mapping[str, Any], sides: Sides) -> ComparisonExample:
    """A prompt, two answers, and which is better. Raises RowError."""
    prompt = stated_prompt(row)
    if prompt is None:
        raise RowError("missing_field", f"none of {', '.join(PROMPT_FIELDS)} is there")
    label, strength = preference(row, sides)
    example = ComparisonExample(
        prompt,
        completion_field(row, sides.names[0]),
        completion_field(row, sides.names[1]),
        label,
        _strength(row) if strength is None else strength,
        annotations=_annotations(row),
        template=template_of(row),
        **beside(row),
    )
    return check_comparison(example, "completion_a", "completion_b")


def parse_cookbook(row: Mapping[str, Any]) -> ComparisonExample:
    """`{"comparison": {...}, "label": "A" | "B" | "Tie"}`, as the Tinker cookbook reads it."""
    comparison = field(row, "comparison")
    if not isinstance(comparison, Mapping):
        raise RowError("wrong_type", "comparison must be an object")
    example = ComparisonExample(
        messages_field(comparison, "prompt_conversation"),
        messages_field(comparison, "completion_A"),
        messages_field(comparison, "completion_B"),
        _label(row),
        _strength(row),
        template=template_of(row),
        **beside(row),
    )
    return check_comparison(example, "completion_a", "completion_b")


def _label(row: Mapping[str, Any]) -> Preference:
    label = text_field(row, "label")
    if label not in set(Preference):
        raise RowError("unknown_label", f"label is {label!r}, must be A, B or Tie")
    return Preference(label)


def _strength(row: Mapping[str, Any]) -> float | None:
    strength = None if row.get("strength") is None else number_field(row, "strength")
    if strength is not None and strength < 0:
        raise RowError("score_out_of_range", f"strength is {strength:g}, must not be negative")
    return strength


def beside(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row may say besides its texts and label."""
    return {
        "category": optional_text(row, "category"),
        "language": optional_text(row, "language"),
        "label_source": optional_text(row, "label_source") or "human",
        "reference": optional_text(row, "reference"),
    }


def _annotations(row: Mapping[str, Any]) -> list[Annotation]:
    listed = row.get("annotations") or []
    if not isinstance(listed, list):
        raise RowError("wrong_type", "annotations must be a list of objects")
    return [_annotation(said) for said in listed]


def _annotation(said: Any) -> Annotation:
    if not isinstance(said, Mapping):
        raise RowError("wrong_type", "annotations must be a list of objects")
    return Annotation(
        _label(said),
        _strength(said),
        optional_text(said, "reason"),
        optional_text(said, "annotator"),
        optional_text(said, "feedback_a"),
        optional_text(said, "feedback_b"),
    )


def on_its_side(example: ComparisonExample, row: Mapping[str, Any]) -> ComparisonExample:
    """Put chosen where `chosen_side` says it was, with the strength of our own; without it, sides
    are dealt as ever.
    """
    side = row.get("chosen_side")
    if side is None:
        return example
    if side not in ("A", "B"):
        raise RowError("unknown_label", f"chosen_side is {side!r}, must be A or B")
    if "strength" in row:
        example = replace(example, strength=_strength(row))
    if side == "A":
        return replace(example, chosen_first=False)
    return replace(
        example,
        completion_a=example.completion_b,
        completion_b=example.completion_a,
        label=example.label.swap(),
        chosen_first=False,
    )
