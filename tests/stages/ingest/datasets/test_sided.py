"""Rows that name their own sides: the cookbook's, our own, and what export adds to TRL's."""

from typing import Any

import pytest

from stages.ingest.datasets.own.preferences import parse_preference
from stages.ingest.examples import RowError


def said(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


OWN: dict[str, Any] = {
    "comparison_id": "0",
    "prompt": said("user", "Hi"),
    "completion_a": said("assistant", "no"),
    "completion_b": said("assistant", "yes"),
    "label": "B",
    "strength": 2.0,
    "annotations": [
        {"annotator": "x", "label": "B", "strength": 1.0, "reason": "r", "feedback_b": "good"}
    ],
    "label_source": "model",
    "category": "c",
    "split": "train",
}
TRL: dict[str, Any] = {
    "prompt": said("user", "Hi"),
    "chosen": said("assistant", "yes"),
    "rejected": said("assistant", "no"),
    "score_chosen": 2.0,
    "score_rejected": 0.0,
    "chosen_side": "B",
    "label_source": "model",
    "category": "c",
}
COOKBOOK: dict[str, Any] = {
    "comparison": {
        "prompt_conversation": OWN["prompt"],
        "completion_A": OWN["completion_a"],
        "completion_B": OWN["completion_b"],
    },
    "label": "B",
    "strength": 2.0,
    "label_source": "model",
    "category": "c",
}


@pytest.mark.parametrize("row", [OWN, TRL, COOKBOOK])
def test_all_three_are_the_same_comparison(row: dict[str, Any]) -> None:
    example = parse_preference(row)
    assert example.prompt == OWN["prompt"]
    assert (example.completion_a, example.completion_b) == (
        OWN["completion_a"],
        OWN["completion_b"],
    )
    assert (example.label, example.strength) == ("B", 2.0)
    assert (example.label_source, example.category) == ("model", "c")
    assert not example.chosen_first


def test_our_own_rows_keep_their_annotations() -> None:
    (annotation,) = parse_preference(OWN).annotations
    assert (annotation.feedback_a, annotation.feedback_b) == (None, "good")
    assert (annotation.annotator, annotation.label, annotation.strength, annotation.reason) == (
        *("x", "B", 1.0),
        "r",
    )
    assert parse_preference({**OWN, "annotations": None}).annotations == []


def test_scores_that_are_null_say_nothing() -> None:
    bare = {**TRL, "score_chosen": None, "score_rejected": None}
    assert parse_preference(bare).strength is None
    with pytest.raises(RowError, match="missing_field"):
        parse_preference({**TRL, "score_rejected": None})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (OWN | {"label": None}, "missing_field"),
        (OWN | {"label": "C"}, "unknown_label"),
        (OWN | {"strength": -1}, "score_out_of_range"),
        (OWN | {"annotations": 5}, "wrong_type"),
        (OWN | {"annotations": ["x"]}, "wrong_type"),
        (OWN | {"annotations": [{"label": "?"}]}, "unknown_label"),
        (OWN | {"completion_b": said("assistant", " no")}, "identical_completions"),
        (TRL | {"chosen_side": "C"}, "unknown_label"),
        (TRL | {"chosen_side": ["A"]}, "unknown_label"),
        (COOKBOOK | {"strength": "much"}, "wrong_type"),
    ],
)
def test_defects(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as error:
        parse_preference(row)
    assert error.value.reason == reason
