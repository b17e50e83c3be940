"""Policy, baseline and compare_with may each be a model, a served model or a file of outputs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from evals.judges.kinds.rule import RuleJudge
from evals.models.checkpoints import ModelSource
from evals.models.contenders import OutputsFile, ServedModel
from evals.models.samplers import TransformersSampler
from schemas.stage import Runtime, SilentProgress, StageContext
from stages.evaluate import STAGE
from stages.evaluate.config import EvaluateConfig
from tests.fixtures.chaos_server import Raw, chaos_server, completion
from tests.fixtures.tiny_models import tiny_llama

TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes

@task
def says_yes():
    return Task(dataset=[Sample(input="Yes?", target="yes", id=1)], scorer=includes())
"""


@pytest.mark.parametrize("file", ["policy", "other"])
def test_whoever_can_run_gets_the_benchmarks(file: str, tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK)
    rows = [{"prompt": f"Is {i} a number?", "output": "It is."} for i in range(3)]
    (tmp_path / "file.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def answers(body: Mapping[str, Any]) -> Raw:
        return Raw(body=json.dumps(completion("yes, it is one")).encode())

    with chaos_server(answers) as server:
        others = iter(
            [
                ModelSource(path=str(tiny_llama(tmp_path / "tiny")), chat_template="role_colon"),
                ServedModel(server=server.url, model="some-model"),
            ]
        )
        who: dict[str, Any] = {
            role: OutputsFile(outputs=str(tmp_path / "file.jsonl"))
            if role == file
            else next(others)
            for role in ("policy", "baseline", "other")
        }
        config = EvaluateConfig(
            policy=who["policy"],
            baseline=who["baseline"],
            compare_with={"other": who["other"]},
            sampler=TransformersSampler(),
            truth=RuleJudge(rule="food"),
            max_tokens=4,
            all_pairs=True,
            tasks=(f"{tmp_path}/task.py@says_yes",),
        )
        output = tmp_path / "evaluate"
        output.mkdir()
        context = StageContext({}, output, Runtime(threads=1, device="cpu"), SilentProgress())
        counts = STAGE.run(config, context)
    assert (counts["prompts"], counts["comparisons"], counts["benchmarks_failed"]) == (3, 3, 0)
    found = json.loads((output / "benchmarks.json").read_bytes())["tasks"]
    assert {entry["model"] for entry in found} == {"policy", "baseline", "other"} - {file}
    truth = json.loads((output / "win_rates.json").read_bytes())["truth"]
    assert {one["name"] for one in truth["ratings"]["models"]} == {"policy", "baseline", "other"}
    assert truth["ratings"]["n_pairs"] == 3
