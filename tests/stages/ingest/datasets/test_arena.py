"""Votes in every published shape, and what cannot be compared."""

import json
from typing import Any

import pytest

from schemas.labels import Preference
from stages.ingest.datasets.arena import ArenaReader
from stages.ingest.datasets.config import ArenaDataset
from stages.ingest.examples import RowError
from tests.fixtures.ingest import Ingest


def turns(*texts: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


VOTE: dict[str, Any] = {
    "question_id": "q",
    "model_a": "x",
    "model_b": "y",
    "winner": "model_b",
    "judge": "judge_7",
    "conversation_a": turns("Hi", "no"),
    "conversation_b": turns("Hi", "yes"),
    "turn": 1,
    "language": "English",
}
ONE_HOT = {
    "id": 1,
    "prompt": json.dumps(["Hi"]),
    "response_a": json.dumps(["no"]),
    "response_b": json.dumps(["yes"]),
    "winner_model_a": 0,
    "winner_model_b": 1,
    "winner_tie": 0,
}
PARTS = {
    **VOTE,
    "conversation_a": [
        {"role": "user", "content": [{"type": "text", "text": "Hi", "image": None}]},
        {"role": "assistant", "content": [{"type": "text", "text": "no"}]},
    ],
}
DATA = ArenaReader(ArenaDataset(path="votes.jsonl"))


@pytest.mark.parametrize(
    "row",
    [VOTE, ONE_HOT, PARTS, ONE_HOT | {"prompt": "Hi", "response_a": ["no"], "response_b": "yes"}],
)
def test_every_shape_is_the_same_comparison(row: dict[str, Any]) -> None:
    example = DATA.parse(row)
    assert example.prompt == turns("Hi")
    assert [c[0]["content"] for c in (example.completion_a, example.completion_b)] == ["no", "yes"]
    assert example.label is Preference.B
    assert not example.chosen_first


@pytest.mark.parametrize(
    ("winner", "label", "said"),
    [
        ("model_a", "A", None),
        ("model_b", "B", None),
        ("tie", "Tie", None),
        ("tie (bothbad)", "Tie", "both bad"),
        ("both_bad", "Tie", "both bad"),
    ],
)
def test_winners_in_all_their_spellings(winner: str, label: str, said: str | None) -> None:
    example = DATA.parse({**VOTE, "winner": winner})
    assert example.label == label
    assert example.annotations[0].reason == said
    assert example.annotations[0].annotator == "judge_7"


def test_two_bad_answers_can_be_left_out() -> None:
    strict = ArenaReader(ArenaDataset(path="votes.jsonl", both_bad="reject"))
    with pytest.raises(RowError) as error:
        strict.parse({**VOTE, "winner": "tie (bothbad)"})
    assert error.value.reason == "both_bad"
    assert strict.parse({**VOTE, "winner": "tie"}).label is Preference.TIE


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (VOTE | {"winner": "model_c"}, "unknown_label"),
        (VOTE | {"winner": None}, "missing_field"),
        (VOTE | {"conversation_a": None}, "missing_field"),
        (VOTE | {"conversation_a": "Hi"}, "wrong_type"),
        (VOTE | {"conversation_a": turns("Ho", "no")}, "prompts_differ"),
        (VOTE | {"conversation_a": turns("Hi")}, "ends_with_human"),
        (VOTE | {"conversation_a": turns("Hi", "yes")}, "identical_completions"),
        (VOTE | {"conversation_a": turns("Hi", "")}, "empty_completion_a"),
        (
            VOTE
            | {"conversation_a": turns("Hi", "no", "So?", "x")}
            | {"conversation_b": turns("Hi", "yes", "So?", "y")},
            "prompts_differ",
        ),
        (
            PARTS | {"conversation_b": [{"role": "user", "content": [{"type": "image"}]}]},
            "not_text",
        ),
        (ONE_HOT | {"winner_tie": 1}, "unknown_label"),
        (ONE_HOT | {"winner_model_b": 0}, "unknown_label"),
        (ONE_HOT | {"winner_model_b": 2}, "unknown_label"),
        (ONE_HOT | {"response_a": "[null]"}, "empty_turn"),
        (ONE_HOT | {"response_a": '["a", "b"]'}, "turns_differ"),
        (ONE_HOT | {"response_a": "[oh"}, "invalid_json"),
    ],
)
def test_what_cannot_be_compared(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as error:
        DATA.parse(row)
    assert error.value.reason == reason


def test_the_stage_reads_votes(ingest: Ingest, jsonl: Any) -> None:
    result = ingest({"kind": "arena", "path": jsonl([VOTE, VOTE | {"winner": "?"}])})
    (row,) = result.table("comparisons")
    assert (row["label"], row["label_source"]) == ("B", "human")
    assert row["completion_b"] == turns("", "yes")[1:]
    assert result.reasons == ["unknown_label"]
