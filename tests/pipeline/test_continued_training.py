"""A larger max_steps: training goes on where it ended, if its schedule allows that."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.recipe import load_recipe
from pipeline.runs.run import Run
from pipeline.stage_registry import STAGES
from schemas.manifest import read_manifest
from schemas.stage import RESUME_FOLDER, SilentProgress
from stages.training import loop
from stages.training.monitoring.metrics import PERFORMANCE
from tests.fixtures.tiny_models import tiny_llama

RECIPE = """
name = "continued"
description = "d"
hardware = "any"
[runtime]
threads = 1
keep_training_state = {keep}
[ingest]
test_fraction = 0.25
[[ingest.datasets]]
kind = "food"
people = 20
demonstrations_per_person = 2
comparisons = 40
[train]
model = {{ path = "{model}" }}
publish = {{ kind = "last" }}
generations = {{ prompts = 0 }}
[train.training]
learning_rate = 1e-2
lr_schedule = "{schedule}"
warmup_ratio = {warmup}
batch_size = 4
max_steps = {steps}
eval_every = 3
save_every = 3
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_llama(tmp_path_factory.mktemp("model"), hidden_size=32, layers=1, spread=0.2)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that were really trained."""
    steps: list[int] = []
    original = loop._Trainer._train_step

    def counted(self: Any, step: int) -> Any:
        steps.append(step)
        return original(self, step)

    monkeypatch.setattr(loop._Trainer, "_train_step", counted)
    return steps


class Recipe:
    """Writes the recipe with a few values, and runs it in a directory."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model

    def run(self, directory: str, steps: int, **values: Any) -> Path:
        settings = {"schedule": "constant", "warmup": 0.0, "keep": "true"} | values
        path = self.folder / "recipe.toml"
        path.write_text(RECIPE.format(model=self.model, steps=steps, **settings))
        run = Run(self.folder / directory, load_recipe(path))
        run.claim()
        for stage in STAGES:
            if stage.name in {"ingest", "sft", "label", "train"}:
                run.execute(stage, SilentProgress())
        return run.directory / "train"


@pytest.fixture
def recipe(tmp_path: Path, model: Path) -> Recipe:
    return Recipe(tmp_path, model)


def curve(folder: Path) -> list[dict[str, float]]:
    """What was measured of the training steps themselves."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in row.items() if k not in PERFORMANCE and not k.startswith("eval_")}
        for row in rows
    ]


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def test_a_finished_training_goes_on_and_ends_like_one_longer_run(
    recipe: Recipe, trained: list[int]
) -> None:
    short = recipe.run("run", 4)
    before = weights(short)
    trained.clear()
    longer = recipe.run("run", 7)
    assert trained == [5, 6, 7]
    at_once = recipe.run("at-once", 7)
    assert weights(longer) == weights(at_once) != before
    assert curve(longer) == curve(at_once)
    trained.clear()
    assert recipe.run("run", 7) == longer
    assert trained == []


def test_an_interrupted_training_goes_on_with_another_number_of_steps(
    recipe: Recipe, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = loop._Trainer._train_step

    def dies(self: Any, step: int) -> Any:
        if step == 6:
            raise KeyboardInterrupt
        return original(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Trainer, "_train_step", dies)
        with pytest.raises(KeyboardInterrupt):
            recipe.run("run", 8)
    trained.clear()
    longer = recipe.run("run", 10)
    assert trained == [4, 5, 6, 7, 8, 9, 10]
    assert weights(longer) == weights(recipe.run("at-once", 10))


def test_a_shorter_training_begins_anew(recipe: Recipe, trained: list[int]) -> None:
    recipe.run("run", 7)
    trained.clear()
    short = recipe.run("run", 4)
    assert trained == [1, 2, 3, 4]
    assert weights(short) == weights(recipe.run("at-once", 4))
    assert curve(short)[-1]["step"] == 4


@pytest.mark.parametrize("other", [{"schedule": "linear"}, {"schedule": "cosine"}, {"warmup": 0.3}])
def test_a_schedule_that_depends_on_its_end_begins_anew(
    recipe: Recipe, trained: list[int], other: dict[str, Any]
) -> None:
    short = recipe.run("run", 3, **other)
    assert not (short / RESUME_FOLDER).exists()
    trained.clear()
    recipe.run("run", 4, **other)
    assert trained == [1, 2, 3, 4]


def test_other_settings_begin_anew(
    recipe: Recipe, trained: list[int], model: Path, tmp_path: Path
) -> None:
    recipe.run("run", 3)
    recipe.model = tiny_llama(tmp_path / "other", hidden_size=32, layers=1, spread=0.2, seed=5)
    trained.clear()
    recipe.run("run", 4)
    assert trained == [1, 2, 3, 4]


def test_what_is_kept_to_go_on_is_no_output(recipe: Recipe, trained: list[int]) -> None:
    kept = recipe.run("kept", 3)
    manifest = read_manifest(kept)
    assert manifest is not None
    assert [p.name for p in (kept / RESUME_FOLDER).iterdir()] == ["step-3"]
    assert not [name for name in manifest.outputs if RESUME_FOLDER in name]
    dropped = recipe.run("dropped", 3, keep="false")
    other = read_manifest(dropped)
    assert other is not None
    assert not (dropped / RESUME_FOLDER).exists()
    assert other.fingerprint == manifest.fingerprint
    trained.clear()
    recipe.run("dropped", 4, keep="false")
    assert trained == [1, 2, 3, 4]
