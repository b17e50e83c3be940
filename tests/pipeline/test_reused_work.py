"""A changed setting redoes what depends on it, and nothing else: no model is asked twice."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.benchmarks.run import run_benchmark
from evals.models.samplers import open_sampler
from pipeline.recipe import load_recipe
from pipeline.runs.run import Outcome, Run
from pipeline.stage_registry import STAGES
from schemas.parquet import read_rows
from schemas.stage import SilentProgress
from schemas.tables import COMPLETIONS, VERDICTS
from stages.training import loop
from tests.fixtures.tiny_models import tiny_llama

RECIPE = """
name = "reused"
description = "d"
hardware = "any"
[runtime]
threads = 1
device = "cpu"
sampler_batch_size = {batch}
judge_batch_size = {batch}
[ingest]
test_fraction = 0.25
dev_fraction = 0.25
[[ingest.datasets]]
kind = "food"
people = 20
demonstrations_per_person = 2
comparisons = 40
[judge]
judge = {{ kind = "preference_model", model = {{ path = "{model}" }}, min_label_mass = {mass} }}
max_card_comparisons = {card}
training = {{ learning_rate = 1e-3, batch_size = 4, max_steps = 2, max_length = 1024 }}
[train]
model = {{ path = "{model}" }}
publish = {{ kind = "last" }}
generations = {{ prompts = 0 }}
loss = {{ kind = "sigmoid", beta = {beta} }}
training = {{ learning_rate = 1e-2, batch_size = 4, max_steps = 2 }}
[evaluate]
headline = "{headline}"
truth = {{ kind = "rule" }}
sampler = {{ kind = "transformers" }}
max_tokens = 4
limit = 3
tasks = ["food_preference"]
"""


class Work:
    """Runs the recipe with a few values, and says what was really done for it."""

    def __init__(self, folder: Path, model: Path, done: list[str]) -> None:
        self.folder, self.model, self.done = folder, model, done

    def run(self, *stages: str, **changed: Any) -> list[str]:
        values = {"beta": 0.1, "mass": 0.0, "card": 8, "batch": 32}
        values |= {"headline": "win_rate"} | changed
        path = self.folder / "recipe.toml"
        path.write_text(RECIPE.format(model=self.model, **values))
        run = Run(self.folder / "run", load_recipe(path))
        run.claim()
        self.done.clear()
        outcomes = {
            stage.name: run.execute(stage, SilentProgress())[0]
            for stage in STAGES
            if stage.name in {*stages, "ingest", "sft", "judge", "sample", "label"}
        }
        assert outcomes[stages[-1]] is Outcome.DONE
        return list(dict.fromkeys(self.done))


@pytest.fixture(scope="module")
def done() -> Iterator[list[str]]:
    """What costs something is noted here before it is done."""
    torch.set_num_threads(1)
    noted: list[str] = []
    step, opened, task = loop._Trainer._train_step, open_sampler, run_benchmark

    def stepped(self: Any, number: int) -> Any:
        noted.append("training")
        return step(self, number)

    def engine(config: Any, source: Any, runtime: Any) -> Any:
        noted.append(f"engine of {Path(source.path).parent.name}")
        return opened(config, source, runtime)

    def measured(name: str, *arguments: Any, metadata: dict[str, str], **more: Any) -> Any:
        noted.append(f"{name} of {metadata['role']}")
        return task(name, *arguments, metadata=metadata, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Trainer, "_train_step", stepped)
        patch.setattr("stages.evaluate.run.open_sampler", engine)
        patch.setattr("stages.evaluate.benchmarks.run_benchmark", measured)
        yield noted


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory: pytest.TempPathFactory, done: list[str]) -> Work:
    """The recipe as it is, evaluated; not to be changed."""
    folder = tmp_path_factory.mktemp("once")
    model = tiny_llama(folder / "base" / "start", hidden_size=32, layers=1, context=2048)
    once = Work(folder, model, done)
    assert once.run("judge") == ["training"]
    found = once.run("train", "evaluate")
    assert found[0] == "training"
    assert {"food_preference of baseline", "food_preference of policy"} <= set(found)
    assert "engine of base" in found
    return once


@pytest.fixture
def work(finished_once: Work, tmp_path: Path) -> Work:
    """A copy of it, to be changed at will."""
    shutil.copytree(finished_once.folder / "run", tmp_path / "run")
    return Work(tmp_path, finished_once.model, finished_once.done)


def table(folder: Path, name: str, role: str) -> Sequence[dict[str, Any]]:
    kind = {"completions": COMPLETIONS, "verdicts": VERDICTS}[name]
    return read_rows(folder / "run" / "evaluate" / f"{name}{role}.parquet", kind)


def test_another_beta_leaves_the_baseline_and_the_judge_alone(work: Work) -> None:
    kept = table(work.folder, "completions", "_baseline")
    policy = table(work.folder, "completions", "_policy")
    again = work.run("train", "evaluate", beta=0.5)
    assert again == ["training", "engine of train", "food_preference of policy"]
    assert table(work.folder, "completions", "_baseline") == kept
    assert {r["policy"] for r in table(work.folder, "completions", "_policy")}.isdisjoint(
        r["policy"] for r in policy
    )
    logs = work.folder / "run" / "evaluate" / "logs"
    assert sorted(path.name for path in logs.glob("*.eval")) == [
        "baseline-food_preference.eval",
        "policy-food_preference.eval",
    ]


def test_what_is_damaged_of_kept_work_is_made_again_when_it_is_used(work: Work) -> None:
    kept = {path: path.read_bytes() for path in pieces(work.folder)}
    assert {path.name for path in kept} >= {"log.eval", "shard.json", "completions.parquet"}
    for path, data in kept.items():
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    again = work.run("evaluate", headline="discrete")
    assert {"engine of train", "food_preference of policy", "food_preference of baseline"} <= {
        *again
    }
    tables = [path for path in kept if path.suffix == ".parquet"]
    assert tables
    assert {path: path.read_bytes() for path in tables} == {path: kept[path] for path in tables}


def pieces(folder: Path) -> list[Path]:
    return [p for p in (folder / "run" / "evaluate" / "resume").rglob("*") if p.is_file()]


@pytest.mark.parametrize("change", [{"mass": 0.01}, {"card": 4}, {"batch": 3}])
def test_how_a_judge_is_measured_does_not_train_it_again(
    work: Work, change: dict[str, Any]
) -> None:
    weights = work.folder / "run" / "judge" / "model" / "model.safetensors"
    before = weights.read_bytes()
    assert work.run("judge", **change) == []
    assert weights.read_bytes() == before


def test_other_batches_make_the_numbers_of_evaluate_again_and_train_nothing(work: Work) -> None:
    again = work.run("evaluate", batch=3)
    assert "training" not in again
    assert {"engine of train", "food_preference of policy", "food_preference of baseline"} <= {
        *again
    }
