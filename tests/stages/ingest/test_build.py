"""Splits, sides, duplicates and what is derived from comparisons."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import ConfigError
from stages.ingest import run as ingest_run
from stages.ingest.splits import hash_split, named_split
from tests.fixtures.ingest import Ingest, pair

Write = Callable[..., str]


def own(path: str, **more: Any) -> dict[str, Any]:
    return {"kind": "jsonl", "path": path, **more}


def test_a_split_depends_on_the_prompt_alone(ingest: Ingest, jsonl: Write) -> None:
    rows = [pair(i) for i in range(200)]
    shuffled = [{**r, "chosen": r["chosen"] + "!"} for r in random.Random(0).sample(rows, 150)]
    one = ingest(own(jsonl(rows)), test_fraction=0.3)
    two = ingest(own(jsonl(shuffled, "other.jsonl")), test_fraction=0.3, seed=9)
    splits = {r["prompt_id"]: r["split"] for r in one.table("prompts")}
    assert all(splits[r["prompt_id"]] == r["split"] for r in two.table("comparisons"))
    assert 40 <= list(splits.values()).count("test") <= 80


def test_one_go_and_by_units_make_the_same_tables(
    ingest: Ingest, jsonl: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*(pair(i) for i in range(50)), pair(3), {**pair(7), "chosen": ""}, {"odd": 1}]
    path = jsonl(rows)
    tables = ("prompts", "demonstrations", "comparisons", "rejects")

    def made() -> list[list[dict[str, Any]]]:
        result = ingest(own(path), near_duplicates={"policy": "off"})
        return [result.table(name) for name in tables]

    ways: list[str] = []

    def noted(way: str) -> Callable[..., Any]:
        whole = getattr(ingest_run, way)

        def run(*arguments: Any) -> Any:
            ways.append(way)
            return whole(*arguments)

        return run

    for way in ("_in_one_go", "_by_units"):
        monkeypatch.setattr(ingest_run, way, noted(way))
    in_one_go = made()
    monkeypatch.setattr(ingest_run._Reader, "is_final", lambda self: False)
    assert in_one_go == made()
    assert ways == ["_in_one_go", "_by_units"]
    assert len(in_one_go[3]) == 3


def test_a_larger_test_fraction_only_adds() -> None:
    ids = [f"{random.Random(i).getrandbits(128):032x}" for i in range(500)]
    small, large = ({i for i in ids if hash_split(i, f, 0.1) == "test"} for f in (0.1, 0.2))
    assert small < large
    assert not [i for i in ids if hash_split(i, 0, 0) != "train" or hash_split(i, 1, 1) != "test"]


def test_chosen_falls_on_a_side_by_content_and_seed(ingest: Ingest, jsonl: Write) -> None:
    path = jsonl([pair(i) for i in range(400)])
    sides = {}
    for seed in (0, 1):
        rows = ingest(own(path), seed=seed).table("comparisons")
        for row in rows:
            good = row["completion_a"] if row["label"] == "A" else row["completion_b"]
            assert good[0]["content"].startswith("good")
        sides[seed] = [r["label"] for r in rows]
        assert 150 < sides[seed].count("A") < 250
    assert sides[0] != sides[1]
    given = ingest(own(path), sides="as_given").table("comparisons")
    assert {r["label"] for r in given} == {"A"}


def test_duplicates_are_rejected_whatever_their_order(ingest: Ingest, jsonl: Write) -> None:
    row, other = pair(0), pair(1)
    contrary = {**row, "chosen": row["rejected"], "rejected": row["chosen"]}
    result = ingest(own(jsonl([row, other, row, contrary])))
    assert result.reasons == ["duplicate", "contradictory_duplicate"]
    assert "rows.jsonl row 0" in result.table("rejects")[1]["detail"]
    assert result.counts["comparisons"] == 2


@pytest.mark.parametrize(
    ("label", "reason"), [("B", "duplicate"), ("A", "contradictory_duplicate")]
)
def test_a_mirrored_comparison_is_known_again(
    ingest: Ingest, jsonl: Write, label: str, reason: str
) -> None:
    def tinker(a: str, b: str, label: str) -> dict[str, Any]:
        sides = {"completion_A": a, "completion_B": b}
        turns = {k: [{"role": "assistant", "content": v}] for k, v in sides.items()}
        prompt = [{"role": "user", "content": "Hi"}]
        return {"comparison": {"prompt_conversation": prompt, **turns}, "label": label}

    result = ingest(own(jsonl([tinker("x", "y", "A"), tinker("y", "x", label)])))
    assert result.reasons == [reason]


def test_a_mixture_counts_each_source_and_knows_duplicates_across(
    ingest: Ingest, jsonl: Write
) -> None:
    one, two = jsonl([pair(0), pair(1)], "one.jsonl"), jsonl([pair(1), pair(2)], "two.jsonl")
    result = ingest(own(one, name="first"), own(two))
    assert [r["source"] for r in result.table("comparisons")] == ["first", "first", "jsonl"]
    assert result.counts["rows_in"] == 4
    assert result.counts["rows_kept"] == 3
    assert result.reasons == ["duplicate"]


def test_max_rows_caps_each_data_set(ingest: Ingest, jsonl: Write) -> None:
    path = jsonl([pair(i) for i in range(10)])
    assert ingest(own(path, max_rows=4)).counts["rows_in"] == 4


def test_demonstrations_are_the_chosen_answers_of_train_once_each(
    ingest: Ingest, jsonl: Write
) -> None:
    rows = [pair(i) for i in range(50)] + [{**pair(i), "rejected": "other"} for i in range(50)]
    ties = [{**pair(i), "score_chosen": 1, "score_rejected": 1} for i in range(50, 60)]
    result = ingest(own(jsonl(rows + ties)), test_fraction=0.4)
    train = {r["prompt_id"] for r in result.table("prompts") if r["split"] == "train"}
    shown = result.table("demonstrations")
    assert result.counts["ties"] == 10
    assert len(shown) == len({r["prompt_id"] for r in shown}) < 50
    assert {r["prompt_id"] for r in shown} <= train
    assert all(r["completion"][0]["content"].startswith("good") for r in shown)
    assert ingest(own(jsonl(rows), demonstrations="none")).table("demonstrations") == []


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("harmless-base-test.jsonl.gz", "test"),
        ("data/train.jsonl", "train"),
        ("test_prefs-00000.parquet", "test"),
        ("validation.jsonl.gz", "dev"),
        ("train/part-0.parquet", "train"),
        ("test/x/train.jsonl", "train"),
    ],
)
def test_files_name_their_split(file: str, split: str) -> None:
    assert named_split(file) == split


def test_a_file_that_names_no_split_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'latest\.jsonl' does not say train or test"):
        named_split("latest.jsonl")


def test_no_prompt_is_in_both_splits_even_if_sources_say_so(ingest: Ingest, jsonl: Write) -> None:
    train, test = (
        jsonl([pair(i) for i in n], f)
        for n, f in ((range(10), "train.jsonl"), (range(8, 14), "test.jsonl"))
    )
    for order in ((train, test), (test, train)):
        rows = [{**pair(i), "rejected": "third"} for i in (8, 9)]
        extra = jsonl(rows, "more-train.jsonl")
        result = ingest(*(own(p, keep_source_split=True) for p in (*order, extra)))
        assert result.counts["prompts_moved_to_test"] == 2
        assert result.counts["prompts/test"] == 6
        splits = {(r["prompt_id"], r["split"]) for r in result.table("comparisons")}
        assert len(splits) == 14
        held_out = {p for p, split in splits if split != "train"}
        assert not held_out & {r["prompt_id"] for r in result.table("demonstrations")}
        assert "2 prompts were in test and in another split" in result.progress.warnings[0]


def test_an_empty_split_is_warned_of(ingest: Ingest, jsonl: Write) -> None:
    result = ingest(own(jsonl([pair(0)])), test_fraction=0, dev_fraction=0)
    assert result.progress.warnings == [
        f"no comparison is in the {split} split; set {split}_fraction in [ingest]"
        for split in ("dev", "test")
    ]


def test_dev_is_carved_out_of_train_and_test_stays_what_it_was(
    ingest: Ingest, jsonl: Write
) -> None:
    path = jsonl([pair(i) for i in range(400)])

    def splits(dev: float) -> dict[str, str]:
        found = ingest(own(path), test_fraction=0.2, dev_fraction=dev).table("prompts")
        return {row["prompt_id"]: row["split"] for row in found}

    without, some, more = splits(0), splits(0.1), splits(0.3)
    for found in (some, more):
        assert {i for i in found if found[i] == "test"} == {
            i for i in without if without[i] == "test"
        }
    dev = [{i for i in found if found[i] == "dev"} for found in (without, some, more)]
    assert dev[0] == set() < dev[1] < dev[2]
    assert 20 <= len(dev[1]) <= 60


HELPSTEER3 = {"domain": "general", "language": "english", "overall_preference": 2}


def test_a_source_with_one_held_out_split_keeps_it_as_test(
    ingest: Ingest, jsonl: Write, tmp_path: Path
) -> None:
    """HelpSteer3 publishes train and validation; dev is carved out of its train by hash."""

    def rows(numbers: range) -> list[dict[str, Any]]:
        return [
            HELPSTEER3
            | {"context": [{"role": "user", "content": f"question {i}"}]}
            | {"response1": f"one {i}", "response2": f"two {i}"}
            for i in numbers
        ]

    folder = tmp_path / "preference"
    folder.mkdir()
    jsonl(rows(range(100)), "preference/train.jsonl.gz")
    jsonl(rows(range(100, 120)), "preference/validation.jsonl.gz")
    source = {"kind": "helpsteer3", "path": str(folder), "keep_source_split": True}
    found = ingest(source, dev_fraction=0.2)
    by_file = {(Path(r["file"]).name, r["split"]) for r in found.table("prompts")}
    assert by_file == {
        ("train.jsonl.gz", "train"),
        ("train.jsonl.gz", "dev"),
        ("validation.jsonl.gz", "test"),
    }
    assert found.counts["prompts/test"] == 20
    jsonl(rows(range(120, 130)), "preference/test.jsonl.gz")
    both = ingest(source, dev_fraction=0.2)
    by_file = {(Path(r["file"]).name, r["split"]) for r in both.table("prompts")}
    assert by_file == {
        ("train.jsonl.gz", "train"),
        ("validation.jsonl.gz", "dev"),
        ("test.jsonl.gz", "test"),
    }


def test_nothing_but_tables_is_left_and_a_leftover_does_no_harm(
    ingest: Ingest, jsonl: Write
) -> None:
    result = ingest(own(jsonl([pair(0)])))
    names = ["comparisons", "demonstrations", "prompts", "rejects"]
    assert sorted(p.name for p in result.output.iterdir()) == [f"{n}.parquet" for n in names]


def test_the_stage_is_light_to_import() -> None:
    heavy = "{'torch', 'transformers', 'datasets', 'polars', 'pyarrow', 'vllm', 'inspect_ai'}"
    code = f"import sys, stages.ingest; print(*{heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
