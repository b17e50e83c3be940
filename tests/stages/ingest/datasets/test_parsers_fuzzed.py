"""Whatever stands in a row: a parser gives an example or a RowError, and nothing else."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.ingest.datasets.open import open_dataset
from stages.ingest.examples import ComparisonExample, RowError
from stages.ingest.readers.columns import default_settings

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "yes"}]
OTHER = [TURNS[0], {"role": "assistant", "content": "no"}]
RATED = {
    "response": "yes",
    "overall_score": 10,
    "annotations": {"honesty": {"Rating": "3"}, "helpfulness": {"Rating": "N/A"}},
}
SIDES = {"completion_A": TURNS[1:], "completion_B": OTHER[1:]}
ROWS: list[tuple[str, dict[str, Any]]] = [
    (
        "hh",
        {"chosen": "\n\nHuman: Hi\n\nAssistant: a", "rejected": "\n\nHuman: Hi\n\nAssistant: b"},
    ),
    (
        "helpsteer3",
        {
            "domain": "general",
            "language": "english",
            "context": TURNS[:1],
            "response1": "a",
            "response2": "b",
            "overall_preference": 1,
            "individual_preference": [{"score": 1, "reasoning": "x", "feedback1": "y"}],
        },
    ),
    (
        "ultrafeedback",
        {
            "prompt": "Hi",
            "source": "flan",
            "chosen": TURNS,
            "rejected": OTHER,
            "score_chosen": 2.0,
            "score_rejected": 1.0,
        },
    ),
    (
        "ultrafeedback",
        {"instruction": "Hi", "chosen_response": "a", "rejected_response": "b"}
        | {"chosen_avg_rating": 2, "rejected_avg_rating": 1},
    ),
    (
        "ultrafeedback_openbmb",
        {
            "source": "flan",
            "instruction": "Hi",
            "completions": [RATED, {**RATED, "response": "no", "overall_score": 3}],
        },
    ),
    (
        "arena",
        {"winner": "tie", "judge": "j", "conversation_a": TURNS, "conversation_b": OTHER},
    ),
    (
        "arena",
        {"prompt": '["Hi"]', "response_a": '["a"]', "response_b": '["b"]'}
        | {"winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0},
    ),
    ("jsonl", {"prompt": "Hi", "chosen": "a", "rejected": "b", "category": "c"}),
    ("jsonl", {"chosen": TURNS, "rejected": OTHER, "chosen_side": "A"}),
    ("jsonl", {"comparison": {"prompt_conversation": TURNS[:1], **SIDES}, "label": "A"}),
    (
        "jsonl",
        {"prompt": TURNS[:1], "completion_a": TURNS[1:], "completion_b": OTHER[1:], "label": "A"}
        | {"strength": 1, "annotations": [{"label": "A", "strength": 0}]},
    ),
]
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("role", "content", "label", "score")), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything inside a row."""
    pairs = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [found for k, v in pairs for found in ((*path, k), *places(v, (*path, k)))]


def changed(row: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    row = copy.deepcopy(row)
    at: Any = row
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return row


@pytest.mark.parametrize(("kind", "row"), ROWS)
def test_the_row_that_is_damaged_below_is_good(kind: str, row: dict[str, Any]) -> None:
    parser: Any = open_dataset(default_settings(kind, "x"))
    assert isinstance(parser.parse(row), ComparisonExample)


@settings(max_examples=600, deadline=None)
@given(data=st.data())
def test_a_parser_raises_nothing_but_row_errors(data: st.DataObject) -> None:
    kind, row = data.draw(st.sampled_from(ROWS))
    parser: Any = open_dataset(default_settings(kind, "x"))
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(places(row)))
        row = changed(row, path, data.draw(JSON))
    try:
        example = parser.parse(row)
    except RowError:
        return
    texts = [side[0]["content"].strip() for side in (example.completion_a, example.completion_b)]
    assert all(texts)
    assert texts[0] != texts[1]
