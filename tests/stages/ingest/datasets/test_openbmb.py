"""Four rated completions: which are compared, by which score, and the bug of overall_score."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from schemas.labels import Preference
from stages.ingest.datasets.config import OpenBMBDataset
from stages.ingest.datasets.openbmb import ASPECTS, OpenBMBReader, overall_score
from stages.ingest.datasets.pair_policies import AllAboveMargin, BestRandom, BestWorst
from stages.ingest.examples import RowError
from tests.fixtures.ingest import Ingest


def completion(text: str, *ratings: Any, overall: Any = 5.0) -> dict[str, Any]:
    """`ratings` in the order of ASPECTS; one alone stands for all four."""
    given = ratings * 4 if len(ratings) == 1 else ratings
    return {
        "model": "m",
        "response": text,
        "custom_system_prompt": "Be good.",
        "annotations": {
            aspect: {"Rating": rating, "Rationale": "r"}
            for aspect, rating in zip(ASPECTS, given, strict=True)
        },
        "overall_score": overall,
        "fine-grained_score": math.nan,
    }


ROW: dict[str, Any] = {
    "source": "flan",
    "instruction": "Why?",
    "models": ["m"] * 4,
    "completions": [
        completion("two", "2"),
        completion("five", "5"),
        completion("one", "1"),
        completion("four", "4"),
    ],
    "correct_answers": ["None"],
}


def picked(row: dict[str, Any] = ROW, **settings: Any) -> list[tuple[str, str, str, float | None]]:
    """(label, better, worse, margin) of each comparison."""
    dataset = OpenBMBReader(OpenBMBDataset.model_validate({"path": "x.jsonl", **settings}))
    return [
        (e.label.value, e.completion_a[0]["content"], e.completion_b[0]["content"], e.strength)
        for e in dataset.parse_all(row)
    ]


def test_policies_pick_by_name() -> None:
    assert picked() == [("A", "five", "one", 4.0)]
    assert picked(pairs={"kind": "all_above_margin", "min_margin": 2}) == [
        ("A", "five", "two", 3.0),
        ("A", "four", "two", 2.0),
        ("A", "five", "one", 4.0),
        ("A", "four", "one", 3.0),
    ]
    others = {picked(pairs={"kind": "best_random", "seed": s})[0][2] for s in range(30)}
    assert others == {"two", "one", "four"}


def test_a_random_other_depends_on_seed_and_prompt_alone() -> None:
    policy, scores = BestRandom(seed=1), [1.0, 4.0, 2.0, 3.0]
    assert policy.pick(scores, "p") == policy.pick(scores, "p")
    draws = [policy.pick(scores, f"p{i}")[0] for i in range(300)]
    assert {best for best, _ in draws} == {1}
    counts = [sum(other == i for _, other in draws) for i in (0, 2, 3)]
    assert min(counts) > 70


def test_equal_scores_are_a_tie_and_never_above_a_margin() -> None:
    assert BestWorst().pick([3.0, 3.0, 3.0], "p") == [(0, 2)]
    assert AllAboveMargin(min_margin=0.5).pick([3.0, 3.0, 3.2], "p") == []
    row = {**ROW, "completions": [completion("a", "3"), completion("b", "3")]}
    assert picked(row) == [("Tie", "a", "b", 0.0)]
    with pytest.raises(RowError, match="scores_too_close"):
        picked(row, pairs={"kind": "all_above_margin"})


def test_an_aspect_ranks_by_itself_and_all_are_kept_as_annotations() -> None:
    row = {
        **ROW,
        "completions": [
            completion("kind", "5", "1", "3", "N/A"),
            completion("true", "2", "5", "3", "5"),
        ],
    }
    assert picked(row, score="helpfulness") == [("A", "kind", "true", 3.0)]
    assert picked(row, score="honesty") == [("A", "true", "kind", 4.0)]
    # (5 + 1 + 3) / 3 against (2 + 5 + 3 + 5) / 4: what is not rated is not averaged.
    assert picked(row) == [("A", "true", "kind", 0.75)]
    with pytest.raises(RowError, match="too_few_completions"):
        picked(row, score="truthfulness")
    example = OpenBMBReader(OpenBMBDataset(path="x", score="helpfulness")).parse(row)
    assert [(a.annotator, a.label, a.strength) for a in example.annotations] == [
        ("aspect:helpfulness", Preference.A, 3.0),
        ("aspect:honesty", Preference.B, 4.0),
        ("aspect:instruction_following", Preference.TIE, 0.0),
    ]


@pytest.mark.parametrize(
    ("stated", "fine_grained", "meant"),
    [
        *((10, 1.5, 1), (10, 2, 1), (10, 4.5, 10), (10, 3, None), (10, 4, None), (10, None, None)),
        *((9, 1, 9), (1, 1, 1), (None, 3, None), (8.5, None, 8.5)),
    ],
)
def test_a_ten_may_have_been_a_one(stated: Any, fine_grained: Any, meant: Any) -> None:
    assert overall_score(stated, fine_grained) == meant


def test_a_text_said_twice_counts_once_as_it_was_first_rated() -> None:
    twice = copy.deepcopy(ROW)
    twice["completions"][3] = completion(" five\n", "1")
    assert picked(twice) == [("A", "five", "one", 4.0)]


def test_the_bug_no_longer_makes_the_worst_the_best() -> None:
    row = {
        **ROW,
        "completions": [
            completion("awful", "1", overall=10.0),
            completion("good", "4", overall=8.0),
            completion("unknown", "3", overall=10.0),
        ],
    }
    assert picked(row, score="overall") == [("A", "good", "awful", 7.0)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"source": "truthful_qa"}, "eval_contamination"),
        ({"instruction": " "}, "empty_prompt"),
        ({"instruction": None}, "missing_field"),
        ({"completions": None}, "missing_field"),
        ({"completions": {}}, "wrong_type"),
        ({"completions": ["text"]}, "wrong_type"),
        ({"completions": []}, "too_few_completions"),
        ({"completions": [completion("a", "3")]}, "too_few_completions"),
        ({"completions": [completion("a", "3"), completion("a ", "4")]}, "too_few_completions"),
        ({"completions": [completion("a", "3"), completion(" ", "4")]}, "too_few_completions"),
        ({"completions": [completion("a", "3"), completion("b", "N/A")]}, "too_few_completions"),
        ({"completions": [completion("a", "high")]}, "unreadable_rating"),
        ({"completions": [completion("a", [3])]}, "unreadable_rating"),
        ({"completions": [{**completion("a", "3"), "response": None}]}, "missing_field"),
        ({"completions": [{**completion("a", "3"), "annotations": "x"}]}, "wrong_type"),
    ],
)
def test_defects(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as error:
        picked({**ROW, **change})
    assert error.value.reason == reason


def test_truthful_qa_stays_where_the_recipe_says_so() -> None:
    assert len(picked({**ROW, "source": "truthful_qa"}, truthful_qa="keep")) == 1


def test_the_stage_keeps_every_comparison_of_a_row(ingest: Ingest, jsonl: Any) -> None:
    row = copy.deepcopy(ROW)
    for one in row["completions"]:
        one["fine-grained_score"] = None
    result = ingest(
        {
            "kind": "ultrafeedback_openbmb",
            "path": jsonl([row, {**row, "instruction": ""}]),
            "pairs": {"kind": "all_above_margin", "min_margin": 1},
        }
    )
    rows = result.table("comparisons")
    assert len(rows) == 6
    assert {r["row"] for r in rows} == {0}
    assert {r["label_source"] for r in rows} == {"model"}
    assert result.reasons == ["empty_prompt"]
    assert result.counts["rows_in"] == result.counts["rows_kept"] + result.counts["rejects"]


def test_the_published_example_is_read(real_data: Path) -> None:
    row = json.loads((real_data / "ultrafeedback/openbmb_readme_example.json").read_text())
    with pytest.raises(RowError, match="1 of 1 completions"):  # the README shows one of the four
        picked(row)
    row["completions"].append(completion("other", "5"))
    ((label, _, worse, margin),) = picked(row)
    assert (label, worse) == ("A", row["completions"][0]["response"])
    assert margin == 5 - (2 + 3 + 3 + 3) / 4
