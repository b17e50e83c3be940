"""vLLM says what transformers says: label tokens and rewards, in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from evals.judges import JudgeKind, LlmJudge
from evals.models.vllm import engine as module
from schemas.errors import ConfigError
from schemas.stage import Runtime
from tests.fixtures.comparisons import comparison
from tests.fixtures.patience import PATIENCE
from tests.fixtures.tiny_models import tiny_adapter, tiny_llama, tiny_reward_model

ROOT = Path(__file__).parents[3]
TEXTS = [(f"question {i}?", "word " * (i % 7), "other " * (i % 5)) for i in range(24)]
TOO_LONG = ("q", "x" * 2000, "y")

WORKER = """
import json, sys
from dataclasses import asdict
from pydantic import TypeAdapter
from evals.judges import JudgeKind
from evals.judges.interface import release
from schemas.stage import Runtime
from tests.fixtures.comparisons import comparison
from evals.models.vllm.engine import VllmEngine
job = json.load(sys.stdin)
read, generate = [], VllmEngine.generate
def watched(self, *arguments):
    outputs = generate(self, *arguments)
    read.extend((len(o.prompt_token_ids), o.num_cached_tokens) for o in outputs)
    return outputs
VllmEngine.generate = watched
shown = [comparison(*texts) for texts in job["texts"]]
found = {}
for name, kind in job["kinds"].items():
    judge = TypeAdapter(JudgeKind).validate_python(kind).open(None, Runtime(threads=1))
    first = judge.judge(shown)
    read.clear()
    swapped = judge.judge([c.swap() for c in shown] + shown)
    in_both_orders = list(read)
    release(judge)
    again = judge.judge(shown[:3])
    release(judge)
    release(judge)
    found[name] = {
        "verdicts": [asdict(v) for v in first],
        "together": [asdict(v) for v in swapped],
        "again": [asdict(v) for v in again],
        "read": in_both_orders,
        "fingerprint": judge.fingerprint,
    }
print("RESULT" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("models") / "llama", context=1024)


@pytest.fixture(scope="module")
def adapter(model: Path) -> Path:
    return tiny_adapter(model.with_name("adapter"), model)


@pytest.fixture(scope="module")
def reward(model: Path) -> Path:
    return tiny_reward_model(model.with_name("reward"), context=1024)


Folders = Mapping[str, Path]


@pytest.fixture(scope="module")
def folders(model: Path, adapter: Path, reward: Path) -> Folders:
    return {"llm": model, "adapter": adapter, "reward": reward}


def kinds(folders: Folders, engine: str) -> dict[str, dict[str, Any]]:
    common = {"min_label_mass": 0.0, "engine": engine, "overlong": "unscored"}
    model, adapter, reward = (str(folders[name]) for name in ("llm", "adapter", "reward"))
    return {
        "reward": {
            "kind": "reward_model",
            "model": {"path": reward},
            "engine": engine,
            "overlong": "unscored",
        },
        "llm": {"kind": "llm", "model": {"path": model}, **common},
        "adapter": {"kind": "preference_model", "model": {"path": adapter}, **common},
    }


@pytest.fixture(scope="module")
def by_vllm(folders: Folders) -> dict[str, Any]:
    job = {"kinds": kinds(folders, "vllm"), "texts": [*TEXTS, TOO_LONG]}
    done = subprocess.run(
        [sys.executable, "-c", WORKER],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.rpartition("RESULT")[2])
    return found


@pytest.mark.vllm
@pytest.mark.parametrize("name", ["llm", "adapter", "reward"])
def test_vllm_and_transformers_give_the_same_probabilities(
    by_vllm: dict[str, Any], folders: Folders, name: str
) -> None:
    config = kinds(folders, "transformers")[name]
    kind: JudgeKind = TypeAdapter(JudgeKind).validate_python(config)
    judge = kind.open(None, Runtime(threads=1))
    ours = [vars(v) for v in judge.judge([comparison(*texts) for texts in [*TEXTS, TOO_LONG]])]
    theirs = by_vllm[name]["verdicts"]
    assert ours[-1]["reason"] == theirs[-1]["reason"] == "prompt_too_long"
    for one, two in zip(ours[:-1], theirs[:-1], strict=True):
        for field in ("p_a", "p_b", "p_tie", "label_mass"):
            assert two[field] == (one[field] and pytest.approx(one[field], abs=1e-3))
        assert two["prompt_tokens"] == one["prompt_tokens"]
    assert by_vllm[name]["fingerprint"] != judge.fingerprint, "the engine is part of it"


@pytest.mark.vllm
@pytest.mark.parametrize("name", ["llm", "adapter", "reward"])
def test_a_verdict_does_not_depend_on_its_batch(by_vllm: dict[str, Any], name: str) -> None:
    found = by_vllm[name]
    beside_others = found["together"][len(found["verdicts"]) :]
    for one, two in zip(found["verdicts"][:-1], beside_others[:-1], strict=True):
        assert two["p_a"] == pytest.approx(one["p_a"], abs=1e-4)
    for one, two in zip(found["again"], found["verdicts"], strict=False):
        assert two["p_a"] == pytest.approx(one["p_a"], abs=1e-4)


@pytest.mark.vllm
def test_what_both_orders_share_is_read_once(by_vllm: dict[str, Any]) -> None:
    """The rubric and the prompt, in whole blocks: most of these short comparisons."""
    read = by_vllm["llm"]["read"]
    assert len(read) == 2 * len(TEXTS), "one pass for both, without the ones that are too long"
    assert sum(tokens - shared for tokens, shared in read) < 0.6 * sum(n for n, _ in read)


def test_without_vllm_the_error_says_how_to_install_it(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "vllm_is_installed", lambda: False)
    kind = LlmJudge.model_validate({"model": {"path": str(model)}, "engine": "vllm"})
    with pytest.raises(ConfigError, match="make vllm"):
        kind.open(None, Runtime())
