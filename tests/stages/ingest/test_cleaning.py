"""Cleaning as the stage does it: what goes, why, and what nobody may find in two splits."""

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import ConfigError, MissingInputError
from stages.ingest import STAGE
from stages.ingest.config import IngestConfig
from tests.fixtures.ingest import Ingest, pair

Write = Callable[..., str]
WORDS = [f"w{i}" for i in range(2000)]
OFF = {"policy": "off"}


def own(path: str, **more: Any) -> dict[str, Any]:
    return {"kind": "jsonl", "path": path, **more}


def long_pairs(count: int, copies: int, seed: int = 0) -> list[dict[str, str]]:
    """Rows with prompts of forty words, and near copies of some of them."""
    draw = random.Random(seed)
    prompts = [" ".join(draw.choices(WORDS, k=40)) for _ in range(count)]
    for original in prompts[:copies]:
        words = original.split()
        words[draw.randrange(40)] = draw.choice(WORDS)
        prompts.append(" ".join(words))
    return [{"prompt": p, "chosen": f"yes {i}", "rejected": "no"} for i, p in enumerate(prompts)]


def split_by_row(rows: list[dict[str, Any]]) -> dict[int, str]:
    return {row["row"]: row["split"] for row in rows}


UPWARDS = {("train", "dev"), ("train", "test"), ("dev", "test")}


def test_near_copies_are_in_one_split_and_nothing_is_lost(ingest: Ingest, jsonl: Write) -> None:
    rows = long_pairs(300, 300)
    result = ingest(own(jsonl(rows)), test_fraction=0.3, dev_fraction=0.2)
    splits = split_by_row(result.table("comparisons"))
    assert all(splits[i] == splits[i + 300] for i in range(300))
    assert len(splits) == 600
    apart = ingest(own(jsonl(rows)), test_fraction=0.3, dev_fraction=0.2, near_duplicates=OFF)
    alone = split_by_row(apart.table("comparisons"))
    moved = [i for i in splits if splits[i] != alone[i]]
    assert all((alone[i], splits[i]) in UPWARDS for i in moved)
    for split in ("dev", "test"):
        joined = [i for i in moved if splits[i] == split]
        assert result.counts[f"near_duplicates_moved_to_{split}"] == len(joined) > 20
    assert result.counts["prompts_moved_to_test"] == 0
    held_out = {r["prompt_id"] for r in result.table("comparisons") if r["split"] == "test"}
    assert {r["prompt_id"] for r in result.table("prompts") if r["split"] == "test"} == held_out
    assert not held_out & {r["prompt_id"] for r in result.table("demonstrations")}


def test_what_was_held_out_stays_held_out_when_rows_are_added(ingest: Ingest, jsonl: Write) -> None:
    rows = long_pairs(200, 200)
    few = ingest(own(jsonl(rows[:150] + rows[200:250])), test_fraction=0.2)
    many = ingest(own(jsonl(rows, "all.jsonl")), test_fraction=0.2)
    before = {r["prompt_id"]: r["split"] for r in few.table("prompts")}
    after = {r["prompt_id"]: r["split"] for r in many.table("prompts")}
    order = ("train", "dev", "test")
    assert not [i for i, split in before.items() if order.index(after[i]) < order.index(split)]


@pytest.mark.parametrize("fraction", [0.1, 0.01])
def test_prompts_of_one_template_are_not_held_out_as_one(
    ingest: Ingest, jsonl: Write, fraction: float
) -> None:
    asked = (
        "You are a careful assistant. Read the word below, then write one short friendly sentence "
        "that uses it and nothing else at all. Word: {} {}"
    )
    draw = random.Random(0)
    rows = [{**pair(i), "prompt": asked.format(draw.choice(WORDS), i)} for i in range(300)]
    with pytest.raises(ConfigError, match=r"near_duplicates\.policy = 'off', or raise .*threshold"):
        ingest(own(jsonl(rows)), test_fraction=fraction)
    apart = ingest(own(jsonl(rows)), test_fraction=fraction, near_duplicates=OFF)
    assert apart.counts["prompts/test"] <= 300 * fraction + 20
    assert apart.counts["prompts/train"] > 200


def test_dropping_keeps_one_of_each_held_out_first(ingest: Ingest, jsonl: Write) -> None:
    rows = long_pairs(120, 120)
    path = jsonl(rows)
    result = ingest(own(path), test_fraction=0.3, near_duplicates={"policy": "drop"})
    kept = split_by_row(result.table("comparisons"))
    alone = split_by_row(
        ingest(own(path), test_fraction=0.3, near_duplicates=OFF).table("comparisons")
    )
    assert [(i in kept) + (i + 120 in kept) for i in range(120)] == [1] * 120
    order = ("train", "dev", "test")
    for index in range(120):
        splits = {alone[index], alone[index + 120]}
        assert kept[index if index in kept else index + 120] == max(splits, key=order.index)
    rejects = result.table("rejects")
    assert {r["reason"] for r in rejects} == {"near_duplicate"}
    assert result.counts["rejects/near_duplicate"] == 120
    ids = {r["prompt_id"] for r in result.table("prompts")}
    assert all(r["detail"].split()[-1] in ids for r in rejects)
    assert [json.loads(r["raw"]) for r in rejects] == [rows[r["row"]] for r in rejects]


@pytest.fixture
def evaluation(tmp_path: Path) -> str:
    path = tmp_path / "evaluation.jsonl"
    asked = "Write a poem about the sea and the moon for my old friend in Rome"
    path.write_text(json.dumps({"instruction": asked}) + "\n")
    return str(path)


def test_contaminated_training_prompts_go_with_the_overlap_quoted(
    ingest: Ingest, jsonl: Write, evaluation: str
) -> None:
    asked = "Please write a poem about the sea and the moon for my old friend, in Rome? No. {}"
    rows = [pair(i) for i in range(40)] + [
        {**pair(i), "prompt": asked.format(i)} for i in range(40)
    ]
    settings = {"path": evaluation, "name": "poems"}
    result = ingest(
        own(jsonl(rows)), decontaminate=[settings], test_fraction=0.4, near_duplicates=OFF
    )
    splits = split_by_row(result.table("comparisons"))
    assert all(i in splits for i in range(40))
    # What is held out is not trained on, whatever it says.
    assert {splits[i] for i in range(40, 80) if i in splits} == {"dev", "test"}
    rejects = result.table("rejects")
    assert [r["row"] for r in rejects] == [i for i in range(40, 80) if i not in splits]
    assert {r["reason"] for r in rejects} == {"eval_contamination"}
    assert {r["detail"] for r in rejects} == {
        "shares 15 words with poems: "
        "write a poem about the sea and the moon for my old friend in rome"
    }
    assert all(json.loads(r["raw"]) == rows[r["row"]] for r in rejects)
    assert not {r["row"] for r in rejects} & {r["row"] for r in result.table("prompts")}


def test_evaluation_sets_are_part_of_what_a_run_is_made_of(jsonl: Write, evaluation: str) -> None:
    config = {
        "datasets": [own(jsonl([pair()]))],
        "decontaminate": [{"path": evaluation}],
        "filters": [{"kind": "max_tokens", "limit": 5, "tokenizer": evaluation}],
    }
    files = STAGE.files(IngestConfig.model_validate(config))
    assert [path.name for path in files] == ["rows.jsonl", "evaluation.jsonl", "evaluation.jsonl"]
    config["decontaminate"] = [{"path": "nowhere.jsonl"}]
    with pytest.raises(MissingInputError, match=r"nowhere\.jsonl"):
        STAGE.files(IngestConfig.model_validate(config))


def test_filters_reject_with_their_reasons_in_the_order_of_the_file(
    ingest: Ingest, jsonl: Write
) -> None:
    rows: list[Any] = [pair(i) for i in range(6)]
    rows[1] = {**pair(1), "chosen": "x" * 500}
    rows[2] = b"{"
    rows[3] = {**pair(3), "chosen": "Good 3", "rejected": "good: 3!"}
    rows[4] = pair(0)  # a duplicate
    rules = [{"kind": "length_ratio"}, {"kind": "identical"}]
    result = ingest(own(jsonl(rows)), filters=rules)
    assert [(r["row"], r["reason"]) for r in result.table("rejects")] == [
        (1, "length_ratio"),
        (2, "invalid_json"),
        (3, "identical"),
        (4, "duplicate"),
    ]
    assert result.counts["rows_in"] == 6 == result.counts["rows_kept"] + 4
    spared = ingest(own(jsonl(rows)), filters=[{**rules[0], "sources": ["another"]}])
    assert "length_ratio" not in spared.reasons


def test_languages_are_those_of_the_source(ingest: Ingest, jsonl: Write) -> None:
    rows = [{**pair(i), "language": ("en", "de")[i % 2]} for i in range(10)]
    rule = {"kind": "language", "allowed": ["EN"]}
    result = ingest(own(jsonl(rows)), filters=[rule])
    assert [r["row"] for r in result.table("rejects")] == [1, 3, 5, 7, 9]
    assert result.table("rejects")[0]["detail"] == "tagged de"


def test_a_mixture_keeps_the_weights_and_counts_the_rest(ingest: Ingest, jsonl: Write) -> None:
    one = jsonl([pair(i) for i in range(100)], "one.jsonl")
    two = jsonl([pair(i) for i in range(100, 400)], "two.jsonl")
    datasets = (own(one, name="one", weight=1), own(two, name="two", weight=0.5, max_kept=200))
    result = ingest(*datasets)
    sources = Counter(r["source"] for r in result.table("comparisons"))
    assert sources == {"one": 100, "two": 50}
    assert result.counts["rejects/over_weight"] == 250
    assert result.table("rejects")[0]["detail"] == "50 of the 300 rows of two stay"
    assert {r["file"] for r in result.table("rejects")} == {two}
    again = ingest(*reversed(datasets))
    assert {r["comparison_id"] for r in again.table("comparisons")} == {
        r["comparison_id"] for r in result.table("comparisons")
    }
    other = ingest(*datasets, seed=1)
    drawn = [{r["prompt_id"] for r in x.table("comparisons")} for x in (result, other)]
    assert drawn[0] != drawn[1]


def test_a_cap_draws_by_content_not_by_place(ingest: Ingest, jsonl: Write) -> None:
    rows = [pair(i) for i in range(200)]
    path, shuffled = jsonl(rows), jsonl(random.Random(3).sample(rows, 200), "shuffled.jsonl")
    kept = [
        {r["prompt_id"] for r in ingest(own(p, max_kept=50)).table("comparisons")}
        for p in (path, shuffled)
    ]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 50
    result = ingest(own(path, max_kept=50))
    assert result.counts["rejects/over_cap"] == 150
    assert len(result.table("prompts")) == 50


def test_weights_need_every_data_set(ingest: Ingest, jsonl: Write) -> None:
    path = jsonl([pair(0)])
    with pytest.raises(ConfigError, match=r"jsonl \(2\) has no weight"):
        ingest(own(path, weight=1), own(jsonl([pair(1)], "b.jsonl")))


def test_hash_splits_hold_out_the_same_share_of_every_source(ingest: Ingest, jsonl: Write) -> None:
    """By hash, so that rows may come later: the share is kept within its sampling error."""
    sizes = {"a": 300, "b": 1500}
    paths = {n: jsonl([pair(i) for i in range(s, 2 * s)], f"{n}.jsonl") for n, s in sizes.items()}
    result = ingest(*(own(p, name=n) for n, p in paths.items()), test_fraction=0.2)
    for name, size in sizes.items():
        rows = [r for r in result.table("comparisons") if r["source"] == name]
        held_out = sum(r["split"] == "test" for r in rows) / size
        assert abs(held_out - 0.2) < 4 * (0.2 * 0.8 / size) ** 0.5


def test_prompts_alone_are_a_source_for_sampling(
    ingest: Ingest, jsonl: Write, evaluation: str
) -> None:
    asked = [{"prompt": f"tell me about {word} and {word}s"} for word in WORDS[:50]]
    contaminated = {"prompt": "write a poem about the sea and the moon for my old friend in Rome"}
    result = ingest(
        {"kind": "jsonl", "content": "prompts", "path": jsonl([*asked, contaminated, asked[0]])}
        | {"max_kept": 30},
        decontaminate=[{"path": evaluation}],
        filters=[{"kind": "max_characters", "limit": 1000}],
        test_fraction=0,
    )
    assert len(result.table("prompts")) == 30
    assert Counter(result.reasons) == {"over_cap": 20, "eval_contamination": 1, "duplicate": 1}
    assert {r["table"] for r in result.table("rejects")} == {"prompts"}
