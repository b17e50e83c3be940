"""The smollm2 recipe on the real model, where a machine has it: a few prompts, one step."""

import os
from pathlib import Path

import pytest

from evals.models.checkpoints import ModelSource, load_tokenizer
from evals.models.rendering import ChatRenderer
from pipeline.commands.runs.run import run_recipe
from pipeline.recipe import load_recipe
from schemas.manifest import read_manifest
from schemas.parquet import read_rows
from schemas.results.base import read_result
from schemas.results.benchmarks import BenchmarkResults
from schemas.results.training import TrainingSummary
from schemas.results.win_rates import WinRates
from schemas.tables import COMPLETIONS

NAME = "SmolLM2-135M-Instruct"
RECIPE = Path(__file__).parents[2] / "pipeline" / "recipes" / "smollm2.toml"


def real_model() -> Path | None:
    """The folder that `PREFLINE_REAL_MODEL` names, or one in the user's cache."""
    named = os.environ.get("PREFLINE_REAL_MODEL")
    folder = Path(named) if named else Path.home() / ".cache" / "prefline-real" / NAME
    return folder if (folder / "model.safetensors").is_file() else None


@pytest.mark.skipif(real_model() is None, reason=f"no {NAME} here (set PREFLINE_REAL_MODEL)")
def test_a_real_model_goes_through_its_recipe(tmp_path: Path) -> None:
    model = str(real_model())
    settings = [
        *(f"sample.model.path={model}", f"train.model.path={model}"),
        *("runtime.threads=1", "ingest.datasets.0.prompts=16", "ingest.test_fraction=0.3"),
        *("sample.max_tokens=32", "evaluate.max_tokens=8", "evaluate.max_prompts=3"),
        *("evaluate.limit=1", "train.training.max_steps=1", "train.training.batch_size=2"),
    ]
    done = run_recipe(load_recipe(RECIPE, settings), tmp_path / "run").directory
    rows = read_rows(done / "sample" / COMPLETIONS.file_name, COMPLETIONS)
    renderer = ChatRenderer(load_tokenizer(ModelSource(path=model)))
    assert {row["tokens_of"] for row in rows} == {renderer.fingerprint}
    assert all(len(row["completion_ids"]) == row["num_tokens"] for row in rows)
    summary = read_result(done / "train" / "summary.json", TrainingSummary)
    assert summary.drift is not None
    assert summary.drift.p99 < summary.drift.bound
    assert summary.counts["completions_as_drawn"] >= 2
    assert read_result(done / "evaluate" / "win_rates.json", WinRates).root["judge"].n == 3
    tasks = read_result(done / "evaluate" / "benchmarks.json", BenchmarkResults).tasks
    assert {(t.model, t.error) for t in tasks} == {("policy", None), ("baseline", None)}
    manifest = read_manifest(done / "report")
    assert manifest is not None
