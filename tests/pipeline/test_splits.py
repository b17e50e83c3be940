"""No stage but ingest, the judge's final figures and evaluate opens a row of the test split."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.recipe import load_recipe
from pipeline.stage_registry import BY_NAME
from schemas.manifest import read_manifest
from schemas.parquet import read_table, write_table
from schemas.stage import StageContext
from schemas.tables import COMPARISONS, DECIDING, DEMONSTRATIONS, PROMPTS
from tests.fixtures.command_line import TINY

# What each stage makes that the next one, or a decision, goes by.
MADE = {
    "sft": ("model/model.safetensors",),
    "sample": ("completions.parquet",),
    "label": ("preference_pairs.parquet", "comparisons.parquet", "rejects.parquet"),
    "train": ("model/model.safetensors", "generations.parquet"),
}


@pytest.fixture(scope="module")
def without_test(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ingest's tables of the finished run, their test rows gone."""
    folder = tmp_path_factory.mktemp("ingest")
    for table in (PROMPTS, DEMONSTRATIONS, COMPARISONS):
        path = finished / "ingest" / table.file_name
        assert "test" in read_table(path, table)["split"].to_pylist() or table is DEMONSTRATIONS
        write_table(folder / table.file_name, table, read_table(path, table, DECIDING))
    return folder


@pytest.mark.parametrize("name", MADE)
def test_a_stage_makes_the_same_of_tables_without_test_rows(
    name: str, finished: Path, without_test: Path, tmp_path: Path
) -> None:
    stage, recipe = BY_NAME[name], load_recipe(TINY)
    inputs = {one: finished / one for one in stage.inputs} | {"ingest": without_test}
    output = tmp_path / name
    output.mkdir()
    runtime = recipe.runtime.model_copy(update={"cache_dir": str(tmp_path / "cache")})
    stage.run(recipe.stages[name], StageContext(inputs, output, runtime))
    for made in MADE[name]:
        assert (output / made).read_bytes() == (finished / name / made).read_bytes(), made


def test_the_judge_decides_by_dev_and_is_measured_on_both(
    finished: Path, without_test: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(TINY)
    inputs = {"ingest": without_test, "sft": finished / "sft"}
    BY_NAME["judge"].run(recipe.stages["judge"], StageContext(inputs, tmp_path, recipe.runtime))
    own, whole = (
        json.loads((folder / "card.json").read_text()) for folder in (tmp_path, finished / "judge")
    )
    assert own.pop("test")["n"] == 0 < whole.pop("test")["n"]
    assert own == whole


def test_evaluate_measures_on_the_split_that_is_asked_for(finished: Path, tmp_path: Path) -> None:
    recipe = load_recipe(TINY, ["evaluate.split=dev", "evaluate.tasks=[]"])
    inputs = {one: finished / one for one in BY_NAME["evaluate"].inputs}
    context = StageContext(inputs, tmp_path, recipe.runtime)
    BY_NAME["evaluate"].run(recipe.stages["evaluate"], context)
    assert splits(tmp_path) == {"dev"}
    assert splits(finished / "evaluate") == {"test"}
    manifest = read_manifest(finished / "label")
    assert manifest is not None
    assert manifest.counts["pairs_dev"] + manifest.counts["pairs_train"] == manifest.counts["pairs"]


def splits(folder: Path) -> set[Any]:
    return set(read_table(folder / COMPARISONS.file_name, COMPARISONS)["split"].to_pylist())
