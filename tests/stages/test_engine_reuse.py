"""One engine per model and stage, with vLLM for real, and a LoRA policy served beside its base.

In a process of its own: vLLM changes the process it lives in.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evals.food_world import FOODS, NAMES
from evals.judges import LlmJudge, save_judge
from evals.models.checkpoints import ModelSource, model_fingerprint
from schemas.parquet import read_rows, write_table
from schemas.stage import Runtime
from schemas.tables import COMPLETIONS, PROMPTS, VERDICTS
from tests.fixtures.patience import PATIENCE
from tests.fixtures.preferences import prompt
from tests.fixtures.tiny_models import tiny_adapter, tiny_llama

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, sys
from pathlib import Path
from evals.models.vllm import engine
from evals.models.samplers import VllmSampler
from schemas.errors import DataError
from schemas.stage import Runtime, StageContext
from stages import evaluate, label, sample

run = Path(sys.argv[1])
started, stopped = [], []
start, close = engine.VllmEngine.__init__, engine.VllmEngine.close
def counted_start(self, model, *rest):
    started.append(Path(model.path).parent.name)
    start(self, model, *rest)
def counted_close(self):
    stopped.append(self)
    close(self)
engine.VllmEngine.__init__ = counted_start
engine.VllmEngine.close = counted_close

def stage(one, config):
    started.clear(), stopped.clear()
    inputs = {p.name: p for p in run.iterdir() if p.name != one.STAGE.name}
    (run / one.STAGE.name).mkdir()
    context = StageContext(inputs, run / one.STAGE.name, Runtime(device="cpu", threads=1))
    counts = one.STAGE.run(config, context)
    return {"started": list(started), "stopped": len(stopped), "counts": dict(counts)}

policy = {"path": str(run / "train" / "model")}
found = {
    "sample": stage(sample, sample.SampleConfig(
        sampler=VllmSampler(), model=policy, n=4, max_tokens=6, shard_size=3, max_dev_prompts=None
    )),
    "label": stage(label, label.LabelConfig(pairs="all_pairs", min_margin=0, shard_size=3,
        truncated="keep")),
    "evaluate": stage(evaluate, evaluate.EvaluateConfig(
        sampler=VllmSampler(), policy=policy, baseline={"path": str(run / "sft" / "model")},
        max_tokens=6, tasks=("food_preference",),
    )),
}
print("RESULT" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    tiny_llama(folder / "sft" / "model", ["what does anna like?", *FOODS], context=2048)
    tiny_adapter(folder / "train" / "model", folder / "sft" / "model")
    splits = ("train", "dev", "test")
    rows = [prompt(n, i) | {"split": splits[i % 3]} for i, n in enumerate(NAMES[:18])]
    write_table(folder / "ingest" / PROMPTS.file_name, PROMPTS, rows)
    judge = {"path": str(folder / "sft" / "model")}
    kind = LlmJudge.model_validate({"model": judge, "engine": "vllm", "min_label_mass": 0.0})
    (folder / "judge").mkdir()
    save_judge(folder / "judge", kind, Runtime())
    return folder


@pytest.fixture(scope="module")
def found(run: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(run)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    result: dict[str, Any] = json.loads(done.stdout.rpartition("RESULT")[2])
    return result


@pytest.mark.vllm
@pytest.mark.slow
def test_a_stage_starts_an_engine_once_per_model_whatever_its_shards(found: dict[str, Any]) -> None:
    assert found["sample"]["started"] == ["train"]
    assert found["sample"]["counts"]["prompts"] == 12  # four shards
    assert found["label"]["started"] == ["sft"]
    # The baseline's and the policy's completions and benchmarks; then the judge.
    assert found["evaluate"]["started"] == ["sft", "train", "sft"]
    for stage in found.values():
        assert stage["stopped"] >= len(stage["started"])


@pytest.mark.vllm
@pytest.mark.slow
def test_a_lora_policy_is_evaluated_without_merging_it(found: dict[str, Any], run: Path) -> None:
    rows = {
        role: read_rows(run / "evaluate" / f"completions_{role}.parquet", COMPLETIONS)
        for role in ("policy", "baseline")
    }
    fingerprint = model_fingerprint(ModelSource(path=str(run / "train" / "model")))
    assert {row["policy"] for row in rows["policy"]} == {fingerprint}
    assert {row["sampler"] for row in rows["policy"]} == {"vllm"}
    assert [r["completion"] for r in rows["policy"]] != [r["completion"] for r in rows["baseline"]]
    assert found["evaluate"]["counts"]["benchmarks_failed"] == 0
    verdicts = read_rows(run / "evaluate" / "verdicts.parquet", VERDICTS)
    assert all(row["verdict"] for row in verdicts)
    assert sorted(p.name for p in (run / "train" / "model").iterdir() if "model" in p.name) == [
        "adapter_model.safetensors"
    ]
