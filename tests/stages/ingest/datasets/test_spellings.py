"""Two answers and a label, in the spellings of the field: read, or refused, never guessed."""

from typing import Any

import pytest

from schemas.errors import DataError
from stages.ingest.datasets.own.preferences import parse_preference
from stages.ingest.examples import RowError


def label(a: str, b: str, **row: Any) -> str:
    example = parse_preference({"prompt": "q", a: "one", b: "two", **row})
    assert [t["content"] for t in (*example.completion_a, *example.completion_b)] == ["one", "two"]
    return example.label.value


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("A", "A"),
        ("b", "B"),
        (1, "A"),
        ("2", "B"),
        (2.0, "B"),
        ("model_a", "A"),
        ("Model B", "B"),
        ("response_b", "B"),
        ("tie", "Tie"),
        ("tie (bothbad)", "Tie"),
        ("A>B", "A"),
        ("first", "A"),
    ],
)
@pytest.mark.parametrize("name", ["label", "winner", "preference", "chosen"])
def test_labels_of_sides_a_and_b(said: Any, read: str, name: str) -> None:
    assert label("response_a", "response_b", **{name: said}) == read


@pytest.mark.parametrize(
    ("names", "said", "read"),
    [
        (("response_1", "response_2"), 1, "A"),
        (("response_1", "response_2"), "response_2", "B"),
        (("response_0", "response_1"), 1, "B"),
        (("response_0", "response_1"), 0, "A"),
        (("output1", "output2"), "2", "B"),
        (("completion_A", "completion_B"), "model_a", "A"),
    ],
)
def test_labels_are_read_by_the_names_of_the_columns(
    names: tuple[str, str], said: Any, read: str
) -> None:
    assert label(*names, preference=said) == read


def test_scores_say_which_is_better_and_by_how_much() -> None:
    row = {"prompt": "q", "answer_a": "x", "answer_b": "y", "score_a": 1, "score_b": "3.5"}
    example = parse_preference(row)
    assert (example.label.value, example.strength) == ("B", 2.5)
    assert label("answer_1", "answer_2", rating_1=2, rating_2=2) == "Tie"


@pytest.mark.parametrize("said", [3, "C", "yes", True, -1, 0.5, "model_c", [1]])
def test_what_cannot_be_understood_is_refused(said: Any) -> None:
    with pytest.raises(RowError, match="unknown_label"):
        label("response_a", "response_b", label=said)


@pytest.mark.parametrize("names", [("response_a", "response_b"), ("response_1", "response_2")])
def test_a_count_from_nought_stops_the_file(names: tuple[str, str]) -> None:
    """A 1 beside it would be taken for the first answer."""
    with pytest.raises(DataError, match="count from nought"):
        label(*names, label=0)


def test_more_than_two_answers_and_none_that_is_better() -> None:
    with pytest.raises(RowError, match="several_sides"):
        label("response_0", "response_1", response_2="three", label=1)
    with pytest.raises(RowError, match="missing_field: label is not there"):
        label("response_a", "response_b")
