from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from evals.food_world import FOODS, compare, grade
from schemas.errors import ConfigError
from stages.ingest.config import IngestConfig
from tests.fixtures.ingest import Ingest

FOOD: dict[str, Any] = {"kind": "food", "people": 60, "comparisons": 400, "seed": 7}


def text(completion: list[dict[str, str]]) -> str:
    return completion[0]["content"]


def test_labels_are_the_truth_and_no_answer_is_empty(ingest: Ingest) -> None:
    rows = ingest(FOOD, test_fraction=0.3).table("comparisons")
    assert len(rows) == 400
    for row in rows:
        a, b = text(row["completion_a"]), text(row["completion_b"])
        assert row["label"] == compare(row["prompt"], a, b)
        assert a.strip()
        assert b.strip()
        assert row["label_source"] == "rule"
    assert Counter(r["split"] for r in rows).keys() == {"train", "dev", "test"}
    assert Counter(r["label"] for r in rows).keys() == {"A", "B", "Tie"}


def test_shares_are_as_asked_for(ingest: Ingest) -> None:
    rows = ingest({**FOOD, "comparisons": 2000, "malformed_share": 0.4}).table("comparisons")
    sides = [(r["prompt"], text(r[s])) for r in rows for s in ("completion_a", "completion_b")]
    malformed = sum(not grade(*side).well_formed for side in sides) / len(sides)
    assert malformed == pytest.approx(0.4, abs=0.03)


def test_held_out_people_are_in_no_demonstration(ingest: Ingest) -> None:
    result = ingest(FOOD, test_fraction=0.3)
    held_out = {r["prompt_id"] for r in result.table("prompts") if r["split"] != "train"}
    assert 8 <= len(held_out) <= 40
    demonstrations = result.table("demonstrations")
    assert not held_out & {r["prompt_id"] for r in demonstrations}
    splits = {(r["prompt_id"], r["split"]) for r in result.table("comparisons")}
    assert splits <= {(r["prompt_id"], r["split"]) for r in result.table("prompts")}


def test_the_base_model_is_shown_every_food_alike(ingest: Ingest) -> None:
    rows = ingest(FOOD, test_fraction=0.3).table("demonstrations")
    shown = Counter(text(r["completion"]) for r in rows)
    assert set(shown) == set(FOODS)
    assert len(set(shown.values())) == 1


def test_the_same_seed_makes_the_same_world(ingest: Ingest) -> None:
    files = ("prompts", "demonstrations", "comparisons", "rejects")
    one, two, other = ingest(FOOD), ingest(FOOD), ingest({**FOOD, "seed": 8})
    for name in files:
        assert (one.output / f"{name}.parquet").read_bytes() == (
            two.output / f"{name}.parquet"
        ).read_bytes()
    ids = [{r["comparison_id"] for r in w.table("comparisons")} for w in (one, other)]
    assert ids[0] != ids[1]


def test_the_stage_seed_is_the_default(ingest: Ingest) -> None:
    unseeded = {k: v for k, v in FOOD.items() if k != "seed"}
    assert ingest(unseeded, seed=7).table("comparisons") == ingest(FOOD).table("comparisons")


def test_lineage_names_generator_seed_and_index(ingest: Ingest) -> None:
    result = ingest({**FOOD, "name": "world"})
    rows = [r for t in ("prompts", "demonstrations", "comparisons") for r in result.table(t)]
    assert {r["file"] for r in rows} == {"food:seed=7"}
    assert {r["source"] for r in rows} == {"world"}
    assert [r["row"] for r in rows] == list(range(result.counts["rows_in"]))


def test_more_comparisons_than_there_are_is_refused(ingest: Ingest) -> None:
    with pytest.raises(ConfigError, match="fewer comparisons or more people"):
        ingest({"kind": "food", "people": 2, "comparisons": 200, "malformed_share": 0})


def test_shares_beyond_one_are_refused() -> None:
    shares = {"kind": "food", "preferred_share": 0.6, "malformed_share": 0.6}
    with pytest.raises(ValidationError, match="more than 1"):
        IngestConfig.model_validate({"datasets": [shares]})
