"""The data sets as published: exact counts, and ids that must never change."""

import gzip
import json
from pathlib import Path

from schemas.labels import Message
from tests.fixtures.ingest import Ingest, Ingested

HH = "hh-rlhf/harmless-base-test.jsonl.gz"
ULTRAFEEDBACK = "ultrafeedback/ultrafeedback_binarized_202.jsonl.gz"
HELPSTEER3 = "helpsteer3/helpsteer3_preference_card_2rows.jsonl"


def of_rows(result: Ingested, reason: str) -> list[int]:
    return [r["row"] for r in result.table("rejects") if r["reason"] == reason]


def test_hh_keeps_every_row_that_can_be_read(ingest: Ingest, real_data: Path) -> None:
    path = str(real_data / HH)
    result = ingest({"kind": "hh", "path": path})
    assert result.counts["rows_in"] == 2312
    assert result.counts["comparisons"] == 2307 - 4
    assert of_rows(result, "empty_chosen") == [86, 516, 925, 1103]
    assert of_rows(result, "prompts_differ") == [1254, 1688, 1950, 1952, 2036]
    assert result.counts["rejects"] == 9
    assert {r["file"] for r in result.table("rejects")} == {path}


def test_hh_reads_every_turn_as_the_one_who_spoke(ingest: Ingest, real_data: Path) -> None:
    """The turns, written back with their markers, are the transcript again."""
    result = ingest({"kind": "hh", "path": str(real_data / HH)}, sides="as_given")
    with gzip.open(real_data / HH) as lines:
        raw = [json.loads(line) for line in lines]
    for row in result.table("comparisons"):
        assert row["label"] == "A"
        for side, name in (("completion_a", "chosen"), ("completion_b", "rejected")):
            assert [turn["role"] for turn in row[side]] == ["assistant"]
            assert written(row["prompt"] + row[side]) == "".join(raw[row["row"]][name].split())


def written(turns: list[Message]) -> str:
    speaker = {"user": "Human:", "assistant": "Assistant:"}
    return "".join("".join([speaker[t["role"]], *t["content"].split()]) for t in turns)


def test_hh_chosen_answers_fall_on_both_sides(ingest: Ingest, real_data: Path) -> None:
    labels = [
        r["label"] for r in ingest({"kind": "hh", "path": str(real_data / HH)}).table("comparisons")
    ]
    assert 0.45 < labels.count("A") / len(labels) < 0.55


def test_ultrafeedback_ties_stay_ties(ingest: Ingest, real_data: Path) -> None:
    result = ingest({"kind": "ultrafeedback", "path": str(real_data / ULTRAFEEDBACK)})
    assert result.counts["rows_in"] == 202
    assert result.counts["comparisons"] == 198
    assert result.counts["ties"] == 25
    assert of_rows(result, "identical_completions") == [0, 1]
    assert of_rows(result, "empty_rejected") == [200]
    assert of_rows(result, "empty_chosen") == [201]
    ties = [r for r in result.table("comparisons") if r["label"] == "Tie"]
    assert {r["strength"] for r in ties} == {0.0}
    assert all(r["strength"] > 0 for r in result.table("comparisons") if r["label"] != "Tie")


def test_helpsteer3_comes_through_whole(ingest: Ingest, real_data: Path) -> None:
    raw = [json.loads(line) for line in (real_data / HELPSTEER3).read_text().splitlines()]
    result = ingest({"kind": "helpsteer3", "path": str(real_data / HELPSTEER3)})
    rows = result.table("comparisons")
    assert result.counts["rejects"] == 0
    assert [r["prompt"] for r in rows] == [r["context"] for r in raw]
    for row, was in zip(rows, raw, strict=True):
        overall = was["overall_preference"]
        assert row["completion_a"] == [{"role": "assistant", "content": was["response1"]}]
        assert row["completion_b"] == [{"role": "assistant", "content": was["response2"]}]
        assert row["label"] == ("A" if overall < 0 else "B")
        assert row["strength"] == abs(overall)
        assert row["category"] == was["domain"]
        said = was["individual_preference"]
        assert [a["reason"] for a in row["annotations"]] == [a["reasoning"] for a in said]
        assert [a["strength"] for a in row["annotations"]] == [abs(a["score"]) for a in said]


GOLDEN = [
    ("71c273370d42ab8226ced986916bb01d", "33da95eb28d891d4e44959b2d16a8faf", "train", "A"),
    ("debfd745d5c1b8f46ff49f85ebe4848b", "401e2fa74e8b8e356140f3ce0e587e00", "train", "A"),
    ("a7b3e0e3a06d344241998e482decb234", "e427c57baaa78d2edb56b2ded4635b7a", "train", "A"),
]


def test_ids_and_splits_of_real_rows_never_change(ingest: Ingest, real_data: Path) -> None:
    """Golden values: whoever has pairs of an earlier version must find them again."""
    rows = ingest({"kind": "hh", "path": str(real_data / HH), "max_rows": 3}).table("comparisons")
    assert [(r["prompt_id"], r["comparison_id"], r["split"], r["label"]) for r in rows] == GOLDEN
