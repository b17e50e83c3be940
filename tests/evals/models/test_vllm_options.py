"""What a vLLM engine is started with, and the one line where it does not start."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.models.checkpoints import ModelSource
from evals.models.vllm.options import EngineSettings, adapter_config, engine_options, refusal
from schemas.errors import BackendError, ConfigError
from schemas.stage import Runtime
from tests.fixtures.patience import PATIENCE
from tests.fixtures.tiny_models import tiny_adapter, tiny_llama

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


def options(model: Path, runtime: Runtime, **settings: Any) -> dict[str, Any]:
    source = ModelSource(path=str(model))
    return engine_options(
        EngineSettings("auto", **settings), source, runtime, adapter_config(source)
    )


@pytest.mark.usefixtures("four_gpus")
def test_parallel_settings_reach_the_engine(model: Path) -> None:
    runtime = Runtime(tensor_parallel_size=2, pipeline_parallel_size=2, gpu_memory_utilization=0.55)
    found = options(model, runtime)
    assert (found["tensor_parallel_size"], found["pipeline_parallel_size"]) == (2, 2)
    assert found["gpu_memory_utilization"] == 0.55
    assert found["dtype"] == "bfloat16"
    assert "block_size" not in found, "on a GPU vLLM knows best"


@pytest.mark.usefixtures("four_gpus")
def test_more_parts_than_gpus_are_refused(model: Path) -> None:
    runtime = Runtime(tensor_parallel_size=4, pipeline_parallel_size=2)
    with pytest.raises(ConfigError, match=r"sees 4 GPUs; .*runtime\.ray\.gpus_per_worker"):
        options(model, runtime)


def test_a_cpu_takes_no_parts(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match=r"tensor_parallel_size 2 .* sees 0 GPUs"):
        options(model, Runtime(tensor_parallel_size=2))


def test_prefixes_are_shared_and_adapters_are_not_merged(model: Path, tmp_path: Path) -> None:
    found = options(tiny_adapter(tmp_path / "adapter", model), Runtime())
    assert found["model"] == str(model)
    assert found["enable_lora"]
    assert found["enable_prefix_caching"]
    assert "enable_prefix_caching" not in options(model, Runtime(), runner="pooling")


@pytest.mark.parametrize(
    "said",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "No available memory for the cache blocks. Try increasing `gpu_memory_utilization`",
        "Free memory on device (1.2/79 GiB) on startup is less than desired GPU memory utilization",
        "To serve at least one request, (4 GiB KV cache is needed). See https://example.org",
    ],
)
def test_short_memory_names_the_settings(said: str) -> None:
    given = {
        "max_model_len": 4096,
        "gpu_memory_utilization": 0.9,
        "tensor_parallel_size": 1,
        "dtype": "bfloat16",
    }
    error = refusal(ValueError(f"{said}\nmore"), ModelSource(path="m"), given)
    for setting in ("max_model_len", "gpu_memory_utilization (0.9)", "tensor_parallel_size"):
        assert setting in str(error)
    assert "not enough memory" in str(error)
    assert "\n" not in str(error)
    other = refusal(ValueError("no such architecture"), ModelSource(path="m"), given)
    assert str(other) == "m: vLLM does not start: no such architecture"
    assert isinstance(other, BackendError)


# The real engine, in a process of its own. Its keys and values of 65,536 tokens take 3 GiB, and
# there is 1: it refuses, says so, and one for fewer tokens starts in the same process.
WORKER = """
import json, sys
from evals.models.checkpoints import ModelSource
from evals.models.samplers import SampleRequest, SamplingSettings, VllmSampler, open_sampler
from schemas.errors import BackendError
from schemas.stage import Runtime
source, runtime = ModelSource(path=sys.argv[1]), Runtime(device="cpu", threads=1)
try:
    open_sampler(VllmSampler(), source, runtime)
except BackendError as error:
    said = str(error)
sampler = open_sampler(VllmSampler(max_model_len=256), source, runtime)
prompt = [{"role": "user", "content": "hello " * 20}]
requests = [SampleRequest(str(i), prompt, seed=i) for i in range(4)]
answers = sampler.sample(requests, SamplingSettings(max_tokens=2))
seen = []
inner = sampler._engine.generate
def generate(*arguments):
    outputs = inner(*arguments)
    seen.extend((len(o.prompt_token_ids), o.num_cached_tokens) for o in outputs)
    return outputs
sampler._engine.generate = generate
again = sampler.sample(requests, SamplingSettings(max_tokens=2))
sampler.close()
print("RESULT" + json.dumps({"said": said, "same": answers == again, "seen": seen}))
"""


@pytest.fixture(scope="module")
def engine_results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("models") / "deep"
    tiny_llama(folder, hidden_size=256, layers=24, context=65536, spread=0.02)
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "VLLM_CPU_KVCACHE_SPACE": "1"},
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.rpartition("RESULT")[2])
    return found


@pytest.mark.vllm
def test_an_engine_without_room_says_what_to_change(engine_results: dict[str, Any]) -> None:
    said = engine_results["said"]
    assert "not enough memory for vLLM" in said
    assert "max_model_len (judges: max_prompt_tokens; now 65536 tokens)" in said
    assert "VLLM_CPU_KVCACHE_SPACE" in said
    assert "\n" not in said


@pytest.mark.vllm
def test_one_prompt_is_read_once_for_all_its_samples(engine_results: dict[str, Any]) -> None:
    """The first of four reads it, the others only what is left after its last whole block."""
    (tokens, first), *others = engine_results["seen"]
    assert first == 0, "nothing is left of an earlier call"
    for size, cached in others:
        assert size == tokens
        assert size - cached <= 32
    assert engine_results["same"]
