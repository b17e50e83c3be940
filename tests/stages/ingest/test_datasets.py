"""One row per class of defect, and one per shape that must be understood."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.ingest.datasets.own.preferences import shared_prefix
from stages.ingest.examples import RowError
from tests.fixtures.ingest import Ingest, pair

Write = Callable[..., str]
GOOD_HH = {
    "chosen": "\n\nHuman: Hi\n\nAssistant: Hello",
    "rejected": "\n\nHuman: Hi\n\nAssistant: No",
}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def hh(chosen: Any, rejected: Any) -> dict[str, Any]:
    return {"chosen": chosen, "rejected": rejected}


HH_DEFECTS = [
    (hh(GOOD_HH["chosen"], GOOD_HH["chosen"]), "identical_completions"),
    (hh(GOOD_HH["chosen"], GOOD_HH["chosen"] + "  \n"), "identical_completions"),
    (hh("\n\nHuman: Hi\n\nAssistant: ", GOOD_HH["rejected"]), "empty_chosen"),
    (hh(GOOD_HH["chosen"], "\n\nHuman: Hi\n\nAssistant:"), "empty_rejected"),
    (hh(GOOD_HH["chosen"] + "\n\nHuman: Bye", GOOD_HH["rejected"]), "ends_with_human"),
    (hh(GOOD_HH["chosen"], "\n\nHuman: Hi"), "ends_with_human"),
    (hh("\n\nHuman: Ho\n\nAssistant: x", "\n\nHuman: Hi\n\nAssistant: y"), "prompts_differ"),
    (
        hh(GOOD_HH["chosen"] + "\n\nHuman: So?\n\nAssistant: x", GOOD_HH["rejected"]),
        "prompts_differ",
    ),
    (
        hh(GOOD_HH["chosen"] + "\n\nAssistant: more", GOOD_HH["rejected"]),
        "prompts_differ",
    ),
    (hh("Note." + GOOD_HH["chosen"], GOOD_HH["rejected"]), "text_before_first_turn"),
    (hh("\n\nAssistant: Hello", "\n\nAssistant: No"), "starts_with_assistant"),
    (hh("Hi", "Ho"), "no_turns"),
    (hh("", ""), "no_turns"),
    (hh("\nHuman: Hi\nAssistant: x", GOOD_HH["rejected"]), "no_turns"),
    (hh(5, GOOD_HH["rejected"]), "wrong_type"),
    (hh(["\n\nHuman: Hi"], GOOD_HH["rejected"]), "wrong_type"),
    (hh(None, GOOD_HH["rejected"]), "missing_field"),
    ({"chosen": GOOD_HH["chosen"]}, "missing_field"),
    (hh("\n\nHuman: \n\nAssistant: x", "\n\nHuman: \n\nAssistant: y"), "empty_prompt"),
]


@pytest.mark.parametrize(("row", "reason"), HH_DEFECTS)
def test_hh_defects(ingest: Ingest, jsonl: Write, row: dict[str, Any], reason: str) -> None:
    result = ingest({"kind": "hh", "path": jsonl([row, GOOD_HH])})
    assert result.reasons == [reason]
    assert result.counts["comparisons"] == 1
    assert result.table("rejects")[0]["row"] == 0


@pytest.mark.parametrize(
    "text",
    [
        *("Human: what?", "see\nHuman: x", "Assistant: Human: ok", "a Human: b Assistant: c"),
        *("a\x1eb\x1c\x00", "x\r\ny", "\u00a0n\u200bb", "é e\u0301 🍕", "\ufeffbom", "x" * 100_000),
    ],
)
def test_hh_text_is_text(ingest: Ingest, jsonl: Write, text: str) -> None:
    """Markers without a blank line, odd characters and long answers are kept as they are."""
    row = hh(f"\n\nHuman: Hi\n\nAssistant: {text} end", GOOD_HH["rejected"])
    comparison = ingest({"kind": "hh", "path": jsonl([row])}, sides="as_given").table("comparisons")
    assert comparison[0]["completion_a"] == [assistant(f"{text} end".strip())]
    assert comparison[0]["prompt"] == [user("Hi")]


def test_hh_where_one_answer_begins_the_other(ingest: Ingest, jsonl: Write) -> None:
    row = hh(GOOD_HH["chosen"] + " there", GOOD_HH["chosen"])
    assert ingest({"kind": "hh", "path": jsonl([row])}).counts["comparisons"] == 1


STEER: dict[str, Any] = {
    "domain": "general",
    "language": "english",
    "context": [user("Hi"), assistant("Yes?"), user("Ho &lt; x")],
    "response1": " one",
    "response2": "two",
    "overall_preference": -2,
    "individual_preference": [
        {"score": -2, "reasoning": "@Response 1 is fine", "feedback1": "f", "feedback2": "g"},
        {"score": 0, "reasoning": "same"},
        {"score": 1, "reasoning": "no"},
    ],
}


@pytest.mark.parametrize(("score", "label"), [(-3, "A"), (-1, "A"), (0, "Tie"), (1, "B"), (3, "B")])
def test_helpsteer3_negative_means_the_first_is_better(
    ingest: Ingest, jsonl: Write, score: int, label: str
) -> None:
    path = jsonl([{**STEER, "overall_preference": score}])
    row = ingest({"kind": "helpsteer3", "path": path}).table("comparisons")[0]
    assert (row["label"], row["strength"]) == (label, abs(score))
    assert row["prompt"] == STEER["context"]
    assert [a["label"] for a in row["annotations"]] == ["A", "Tie", "B"]
    assert [a["strength"] for a in row["annotations"]] == [2, 0, 1]
    assert row["annotations"][0]["reason"] == "@Response 1 is fine"
    feedback = [(a["feedback_a"], a["feedback_b"]) for a in row["annotations"]]
    assert feedback == [("f", "g"), (None, None), (None, None)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"overall_preference": 4}, "score_out_of_range"),
        ({"overall_preference": 0.5}, "score_out_of_range"),
        ({"overall_preference": 10**400}, "non_finite_number"),
        ({"overall_preference": None}, "missing_field"),
        ({"overall_preference": "one"}, "wrong_type"),
        ({"overall_preference": True}, "wrong_type"),
        ({"response2": None}, "missing_field"),
        ({"response2": " "}, "empty_response2"),
        ({"response1": "two"}, "identical_completions"),
        ({"context": []}, "empty_prompt"),
        ({"context": [user("Hi"), assistant("x")]}, "prompt_ends_with_answer"),
        ({"context": "Hi"}, "wrong_type"),
        ({"context": [{"role": "narrator", "content": "Hi"}]}, "unknown_role"),
        ({"context": [{"role": ["user"], "content": "Hi"}]}, "unknown_role"),
        ({"context": [{"role": "user", "content": [{"text": 3}]}]}, "wrong_type"),
        ({"context": ["Hi"]}, "wrong_type"),
        ({"individual_preference": [{"score": 7, "reasoning": "x"}]}, "score_out_of_range"),
        ({"individual_preference": [{"reasoning": "x"}]}, "missing_field"),
        ({"individual_preference": {"score": 1}}, "wrong_type"),
    ],
)
def test_helpsteer3_defects(
    ingest: Ingest, jsonl: Write, change: dict[str, Any], reason: str
) -> None:
    path = jsonl([STEER, {**STEER, **change}])
    result = ingest({"kind": "helpsteer3", "path": path})
    assert result.reasons == [reason]


@pytest.mark.parametrize("said", [None, []])
def test_helpsteer3_without_annotators(ingest: Ingest, jsonl: Write, said: Any) -> None:
    path = jsonl([{**STEER, "individual_preference": said}])
    assert ingest({"kind": "helpsteer3", "path": path}).table("comparisons")[0]["annotations"] == []


def test_helpsteer3_exchanged_responses_exchange_the_labels(ingest: Ingest, jsonl: Write) -> None:
    mirrored = {
        **STEER,
        "response1": STEER["response2"],
        "response2": STEER["response1"],
        "overall_preference": 2,
        "individual_preference": [
            {**a, "score": -a["score"]} for a in STEER["individual_preference"]
        ],
    }
    a, b = (
        ingest({"kind": "helpsteer3", "path": jsonl([row])}).table("comparisons")[0]
        for row in (STEER, mirrored)
    )
    assert (a["completion_a"], a["label"]) == (b["completion_b"], "A")
    assert b["label"] == "B"
    assert [x["label"] for x in b["annotations"]] == ["B", "Tie", "A"]
    assert a["strength"] == b["strength"]


UF: dict[str, Any] = {
    "prompt": "Hi ",
    "prompt_id": "0",
    "chosen": [user("Hi "), assistant("yes")],
    "rejected": [user("Hi "), assistant("no")],
    "messages": [user("Hi "), assistant("yes")],
    "score_chosen": 8.0,
    "score_rejected": 5.5,
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"score_chosen": 5.0}, "scores_contradict"),
        ({"score_chosen": None}, "missing_field"),
        ({"score_chosen": "N/A"}, "wrong_type"),
        ({"prompt": "Ho"}, "prompt_mismatch"),
        ({"rejected": UF["chosen"]}, "identical_completions"),
        ({"rejected": [user("Ho"), assistant("no")]}, "prompts_differ"),
        ({"rejected": [user("Hi ")]}, "ends_with_human"),
        ({"rejected": []}, "no_turns"),
        ({"rejected": "no"}, "wrong_type"),
        ({"chosen": [user("Hi "), assistant("")]}, "empty_chosen"),
    ],
)
def test_ultrafeedback_defects(
    ingest: Ingest, jsonl: Write, change: dict[str, Any], reason: str
) -> None:
    result = ingest({"kind": "ultrafeedback", "path": jsonl([UF, {**UF, **change}])})
    assert result.reasons == [reason]


def test_ultrafeedback_without_scores_is_rejected(ingest: Ingest, jsonl: Write) -> None:
    bare = {"chosen": UF["chosen"], "rejected": UF["rejected"]}
    assert ingest({"kind": "ultrafeedback", "path": jsonl([UF, bare])}).reasons == ["missing_field"]


@pytest.mark.parametrize(
    "row",
    [
        UF,
        {k: UF[k] for k in ("chosen", "rejected", "score_chosen", "score_rejected")},
        {"prompt": "Hi ", "chosen": UF["chosen"], "rejected": UF["rejected"]}
        | {"chosen-rating": 8.0, "rejected-rating": 5.5, "source": "flan"},
        {"instruction": "Hi ", "chosen_response": "yes", "rejected_response": "no"}
        | {"chosen_avg_rating": 8.0, "rejected_avg_rating": 5.5},
    ],
)
def test_ultrafeedback_shapes(ingest: Ingest, jsonl: Write, row: dict[str, Any]) -> None:
    path = jsonl([row])
    got = ingest({"kind": "ultrafeedback", "path": path}, sides="as_given").table("comparisons")[0]
    assert got["prompt"] == [user("Hi ")]
    assert (got["completion_a"], got["completion_b"]) == ([assistant("yes")], [assistant("no")])
    assert (got["label"], got["strength"]) == ("A", 2.5)
    assert got["category"] == row.get("source")


SHAPES: dict[str, dict[str, Any]] = {
    "explicit_text": {"prompt": "Hi", "chosen": "yes", "rejected": "no"},
    "explicit_messages": {
        "prompt": [user("Hi")],
        "chosen": [assistant("yes")],
        "rejected": [assistant("no")],
    },
    "implicit_messages": {
        "chosen": [user("Hi"), assistant("yes")],
        "rejected": [user("Hi"), assistant("no")],
    },
    "transcript": hh("\n\nHuman: Hi\n\nAssistant: yes", "\n\nHuman: Hi\n\nAssistant: no"),
    "tinker": {
        "comparison": {
            "prompt_conversation": [user("Hi")],
            "completion_A": [assistant("yes")],
            "completion_B": [assistant("no")],
        },
        "label": "A",
    },
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_own_files_in_every_shape_are_the_same_comparison(
    ingest: Ingest, jsonl: Write, tmp_path: Path, shape: str, kind: str
) -> None:
    path = jsonl([SHAPES[shape]], "rows.data")
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([SHAPES[shape]]), path)
    row = ingest({"kind": kind, "path": path}, sides="as_given").table("comparisons")[0]
    assert row["prompt"] == [user("Hi")]
    assert row["completion_a"] == [assistant("yes")]
    assert row["completion_b"] == [assistant("no")]
    assert row["label"] == "A"


@pytest.mark.parametrize("shape", ["explicit_text", "explicit_messages", "tinker"])
def test_a_reference_goes_beside_its_prompt(ingest: Ingest, jsonl: Write, shape: str) -> None:
    done = ingest({"kind": "jsonl", "path": jsonl([{**SHAPES[shape], "reference": "It is so."}])})
    for name in ("prompts", "comparisons"):
        assert [row["reference"] for row in done.table(name)] == ["It is so."]
    other = jsonl([{"prompt": "Hi", "reference": "It is so."}, {"prompt": "Ho"}], "p.jsonl")
    done = ingest({"kind": "jsonl", "path": other, "content": "prompts"})
    assert {row["reference"] for row in done.table("prompts")} == {"It is so.", None}


@pytest.mark.parametrize("label", ["A", "B", "Tie"])
def test_tinker_labels_stay(ingest: Ingest, jsonl: Write, label: str) -> None:
    path = jsonl([{**SHAPES["tinker"], "label": label}])
    row = ingest({"kind": "jsonl", "path": path}).table("comparisons")[0]
    assert row["label"] == label
    assert row["completion_a"] == [assistant("yes")]


def test_implicit_text_is_cut_between_words(ingest: Ingest, jsonl: Write) -> None:
    path = jsonl([{"chosen": "The sky is blue.", "rejected": "The sky is black."}])
    row = ingest({"kind": "jsonl", "path": path}, sides="as_given").table("comparisons")[0]
    assert row["prompt"] == [user("The sky is")]
    assert row["completion_a"] == [assistant(" blue.")]


@given(st.text("ab \n", max_size=12), st.text("ab \n", max_size=12), st.text("ab \n", max_size=12))
def test_a_cut_loses_nothing_and_leaves_two_answers(head: str, one: str, two: str) -> None:
    try:
        prompt, chosen, rejected = shared_prefix(head + one, head + two)
    except RowError:
        return
    assert (prompt + chosen, prompt + rejected) == (head + one, head + two)
    assert prompt.strip()
    assert chosen[:1].isspace() or rejected[:1].isspace()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "", "chosen": "yes", "rejected": "no"}, "empty_prompt"),
        ({"prompt": "Hi", "chosen": " ", "rejected": "no"}, "empty_chosen"),
        ({"prompt": "Hi", "chosen": [assistant("a"), user("b")], "rejected": "no"}, "not_one_turn"),
        ({"prompt": "Hi", "chosen": [user("a")], "rejected": "no"}, "not_assistant"),
        ({"chosen": "blue", "rejected": "black"}, "no_shared_prompt"),
        ({"chosen": "same", "rejected": "same"}, "identical_completions"),
        ({"prompt": "Hi", "chosen": "yes"}, "missing_field"),
        ({**SHAPES["tinker"], "label": "C"}, "unknown_label"),
        ({**SHAPES["tinker"], "label": None}, "missing_field"),
        ({"comparison": [], "label": "A"}, "wrong_type"),
        ({}, "missing_field"),
    ],
)
def test_own_file_defects(ingest: Ingest, jsonl: Write, row: dict[str, Any], reason: str) -> None:
    assert ingest({"kind": "jsonl", "path": jsonl([row, pair()])}).reasons == [reason]


def test_demonstrations_and_prompts_of_ones_own(ingest: Ingest, jsonl: Write) -> None:
    shown = [{"prompt": "Hi", "completion": "Hello"}] * 2 + [{"prompt": "Hi", "completion": ""}]
    asked = [{"prompt": "Hi"}, {"prompt": [user("Ho")]}, {"prompt": "Ho"}]
    result = ingest(
        {"kind": "jsonl", "content": "demonstrations", "path": jsonl(shown, "d.jsonl")},
        {"kind": "jsonl", "content": "prompts", "path": jsonl(asked, "p.jsonl")},
    )
    assert len(result.table("demonstrations")) == 1
    assert [r["prompt"] for r in result.table("prompts")] == [[user("Hi")], [user("Ho")]]
    assert [(r["table"], r["reason"]) for r in result.table("rejects")] == [
        ("demonstrations", "duplicate"),
        ("demonstrations", "empty_completion"),
        ("prompts", "duplicate"),
    ]
