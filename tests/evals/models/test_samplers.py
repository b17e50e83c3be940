"""Samplers: distribution, determinism, logps, limits; vLLM and transformers against each other."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from evals.models.checkpoints import ModelSource, load_causal_lm, load_tokenizer
from evals.models.rendering import ChatRenderer
from evals.models.samplers import (
    AutoSampler,
    SampledCompletion,
    Sampler,
    SamplerConfig,
    SampleRequest,
    SamplingSettings,
    TransformersSampler,
    Unsampled,
    VllmSampler,
    open_sampler,
)
from evals.models.samplers.draws import draw, uniforms
from evals.models.samplers.transformers import TransformersEngine
from evals.models.vllm import engine
from evals.pulse import heard_by
from schemas.errors import ConfigError, MissingInputError
from schemas.labels import Messages
from schemas.stage import Runtime
from tests.fixtures.patience import PATIENCE
from tests.fixtures.tiny_models import tiny_adapter, tiny_llama

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")


def ask(text: str) -> Messages:
    return [{"role": "user", "content": text}]


REQUESTS = [
    SampleRequest(str(i), ask(f"what does {'anna ' * (i % 5)}like?"), seed=100 + i)
    for i in range(24)
]
TOO_LONG = SampleRequest("long", ask("x" * 200), seed=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="module")
def adapter(model: Path) -> Path:
    return tiny_adapter(model.with_name("adapter"), model)


@pytest.fixture(scope="module")
def sampler(model: Path) -> Iterator[Sampler]:
    opened = open_on_cpu(model)
    yield opened
    opened.close()


def open_on_cpu(model: Path, batch_size: int = 64, **config: Any) -> Sampler:
    runtime = Runtime(device="cpu", threads=1, sampler_batch_size=batch_size)
    return open_sampler(TransformersSampler(**config), ModelSource(path=str(model)), runtime)


def sampled(answers: list[Any]) -> list[SampledCompletion]:
    assert all(isinstance(a, SampledCompletion) for a in answers), answers
    return answers


def next_token_logits(model: Path, ids: list[int]) -> torch.Tensor:
    """Logits of every position, by one plain forward pass without cache or padding."""
    loaded = load_causal_lm(ModelSource(path=str(model)), CPU)
    with torch.no_grad():
        logits: torch.Tensor = loaded(torch.tensor([ids])).logits[0]
    return logits


def sum_logps_of(model: Path, prompt: Messages, completion: list[int]) -> float:
    renderer = ChatRenderer(load_tokenizer(ModelSource(path=str(model))))
    prompt_ids = renderer.prompt_ids(prompt)
    logps = next_token_logits(model, prompt_ids + completion).log_softmax(-1)
    return float(sum(logps[len(prompt_ids) - 1 + i, token] for i, token in enumerate(completion)))


# The draw


def test_uniform_numbers_are_a_function_of_seed_and_step_alone() -> None:
    together = uniforms([3, 7, 2**31 - 1], 16)
    assert np.array_equal(uniforms([7], 4)[0], together[1, :4])
    assert together.min() >= 0
    assert together.max() < 1


def test_uniform_numbers_look_uniform_along_seeds_and_along_steps() -> None:
    numbers = uniforms(range(1000), 50)
    for axis in (0, 1):
        assert np.abs(numbers.mean(axis) - 0.5).max() < 5 * (1 / 12 / numbers.shape[axis]) ** 0.5
    neighbours = np.corrcoef(numbers[:-1].ravel(), numbers[1:].ravel())[0, 1]
    steps = np.corrcoef(numbers[:, :-1].ravel(), numbers[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.02
    assert abs(steps) < 0.02


def test_draw_inverts_the_cumulative_distribution() -> None:
    p = torch.tensor([[0.2, 0.5, 0.0, 0.3]]).expand(5, 4)
    uniform = torch.tensor([0.0, 0.19, 0.21, 0.71, 0.99], dtype=torch.float64)
    tokens, logps = draw(p.log(), uniform, SamplingSettings())
    assert tokens.tolist() == [0, 0, 1, 3, 3]
    assert logps.exp().tolist() == pytest.approx([0.2, 0.2, 0.5, 0.3, 0.3])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (SamplingSettings(), [0.1, 0.2, 0.3, 0.4]),
        # p ** 2 normalised: 1, 4, 9, 16 of 30.
        (SamplingSettings(temperature=0.5), [1 / 30, 4 / 30, 9 / 30, 16 / 30]),
        # 0.4 + 0.3 reach 0.65, so two tokens stay, renormalised.
        (SamplingSettings(top_p=0.65), [0, 0, 3 / 7, 4 / 7]),
        (SamplingSettings(temperature=0), [0, 0, 0, 1]),
    ],
)
def test_draws_follow_the_distribution(settings: SamplingSettings, expected: list[float]) -> None:
    rows = 20_000
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log().expand(rows, 4)
    tokens, logps = draw(logits, torch.from_numpy(uniforms(range(rows), 1)[:, 0]), settings)
    counts = np.bincount(tokens.numpy(), minlength=4)
    likely = np.array(expected) > 0
    wanted = np.array(expected) * rows
    assert counts[~likely].sum() == 0
    # Chi-square with at most 3 degrees of freedom: 21.1 is its 99.99th percentile.
    assert ((counts - wanted)[likely] ** 2 / wanted[likely]).sum() < 21.1
    # Whatever the settings, the logps are the model's own.
    assert logps.exp().tolist() == pytest.approx(((tokens + 1) / 10).tolist(), rel=1e-5)


@pytest.mark.parametrize("size", [3, 256, 257, 5000])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_a_large_vocabulary_is_searched_as_a_plain_running_sum_would(
    size: int, top_p: float
) -> None:
    rows = 500
    logits = torch.randn(rows, size, generator=torch.Generator().manual_seed(size))
    logits[:, ::3] = -torch.inf  # no probability at all
    uniform = torch.linspace(0, 1, rows + 1, dtype=torch.float64)[:-1]
    tokens, _ = draw(logits, uniform, SamplingSettings(top_p=top_p))
    assert (tokens % 3 != 0).all()
    for row in range(rows):
        p = logits[row].double().softmax(0)
        order = p.argsort(descending=True) if top_p < 1 else torch.arange(size)
        mass = p[order].cumsum(0)
        total = mass[mass >= top_p - 1e-9][0] if top_p < 1 else mass[-1]
        place = int((order == tokens[row]).nonzero())
        target = float(uniform[row] * total)
        assert float(mass[place] - p[order][place]) - 1e-5 <= target <= float(mass[place]) + 1e-5


# The transformers sampler


def test_first_tokens_follow_the_models_softmax(sampler: Sampler, model: Path) -> None:
    requests = [SampleRequest(str(i), ask("who?"), seed=i) for i in range(4000)]
    answers = sampled(sampler.sample(requests, SamplingSettings(max_tokens=1)))
    renderer = ChatRenderer(load_tokenizer(ModelSource(path=str(model))))
    p = next_token_logits(model, renderer.prompt_ids(ask("who?")))[-1].double().softmax(-1).numpy()
    counts = np.bincount([a.token_ids[0] for a in answers], minlength=len(p))
    often = p * len(requests) >= 10
    observed = np.append(counts[often], counts[~often].sum())
    wanted = np.append(p[often], p[~often].sum()) * len(requests)
    degrees = len(wanted) - 1
    chi_square = ((observed - wanted) ** 2 / wanted).sum()
    assert degrees > 5
    assert chi_square < degrees + 5 * (2 * degrees) ** 0.5


def test_greedy_equals_step_by_step_argmax(sampler: Sampler, model: Path) -> None:
    settings = SamplingSettings(temperature=0, max_tokens=6)
    answers = sampled(sampler.sample(REQUESTS[:5], settings))
    renderer = ChatRenderer(load_tokenizer(ModelSource(path=str(model))))
    for request, answer in zip(REQUESTS, answers, strict=False):
        prompt = renderer.prompt_ids(request.prompt)
        logits = next_token_logits(model, prompt + answer.token_ids)
        assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == answer.token_ids


def test_a_completion_depends_on_its_prompt_and_seed_alone(sampler: Sampler, model: Path) -> None:
    settings = SamplingSettings(max_tokens=12)
    together = sampled(sampler.sample(REQUESTS, settings))
    assert together == sampler.sample(REQUESTS, settings)
    alone = [sampled(sampler.sample([request], settings))[0] for request in REQUESTS]
    backwards = sampled(open_on_cpu(model, batch_size=5).sample(REQUESTS[::-1], settings))[::-1]
    for one, two, three in zip(together, alone, backwards, strict=True):
        assert one.token_ids == two.token_ids == three.token_ids
        assert one.sum_logps == pytest.approx(two.sum_logps, abs=1e-3)


def test_beats_add_up_to_the_requests_whatever_the_batches_and_ends(sampler: Sampler) -> None:
    heard: list[float] = []
    with heard_by(heard.append):
        sampler.sample([*REQUESTS, TOO_LONG], SamplingSettings(max_tokens=8))
    assert sum(heard) == pytest.approx(len(REQUESTS))
    assert len(heard) > 2


def test_another_seed_gives_another_completion(sampler: Sampler) -> None:
    requests = [SampleRequest(str(i), ask("who?"), seed=i) for i in range(8)]
    answers = sampled(sampler.sample(requests, SamplingSettings(max_tokens=8)))
    assert len({tuple(a.token_ids) for a in answers}) == 8


def test_sum_logps_are_those_of_a_plain_forward_pass(sampler: Sampler, model: Path) -> None:
    settings = SamplingSettings(temperature=0.7, top_p=0.8, max_tokens=10)
    for request, answer in zip(REQUESTS, sampled(sampler.sample(REQUESTS, settings)), strict=True):
        expected = sum_logps_of(model, request.prompt, answer.token_ids)
        assert answer.sum_logps == pytest.approx(expected, abs=1e-3)


def test_a_stopped_completion_keeps_its_end_token_out_of_the_text(
    sampler: Sampler, model: Path
) -> None:
    requests = [SampleRequest(str(i), ask("who?"), seed=i) for i in range(300)]
    answers = sampled(sampler.sample(requests, SamplingSettings(max_tokens=16)))
    renderer = ChatRenderer(load_tokenizer(ModelSource(path=str(model))))
    for answer in answers:
        ends = [i for i, token in enumerate(answer.token_ids) if token in renderer.end_ids]
        if answer.finish_reason == "stop":
            assert ends == [len(answer.token_ids) - 1]
            assert answer.text == renderer.decode(answer.token_ids[:-1])
        else:
            assert ends == []
            assert len(answer.token_ids) == 16
    assert {a.finish_reason for a in answers} == {"stop", "length"}


def test_the_end_token_at_once_is_an_empty_completion(model: Path) -> None:
    source = ModelSource(path=str(model))
    loaded, tokenizer = load_causal_lm(source, CPU), load_tokenizer(source)
    end = ChatRenderer(tokenizer).end_ids[0]
    with torch.no_grad():  # whatever was read, the end token has all the probability
        loaded.lm_head.weight.zero_()
        loaded.lm_head.bias = torch.nn.Parameter(torch.full((len(tokenizer),), -40.0))
        loaded.lm_head.bias[end] = 0
    engine = TransformersEngine(
        loaded, ChatRenderer(tokenizer), fingerprint="f", context=None, batch_size=8
    )
    (answer,) = engine.sample([REQUESTS[0]], SamplingSettings(max_tokens=5))
    assert isinstance(answer, SampledCompletion)
    assert (answer.text, answer.token_ids, answer.finish_reason) == ("", [end], "stop")
    assert answer.sum_logps == pytest.approx(0, abs=1e-6)


def test_a_prompt_without_room_is_unsampled_and_the_others_go_on(sampler: Sampler) -> None:
    settings = SamplingSettings(max_tokens=4)
    answers = sampler.sample([REQUESTS[0], TOO_LONG, REQUESTS[1]], settings)
    assert isinstance(answers[1], Unsampled)
    assert answers[1].reason == "prompt_too_long"
    assert [answers[0], answers[2]] == sampler.sample(REQUESTS[:2], settings)
    assert sampler.sample([], settings) == []
    assert isinstance(sampler.sample([TOO_LONG], settings)[0], Unsampled)


def test_max_model_len_narrows_the_context(model: Path) -> None:
    narrow = open_on_cpu(model, max_model_len=20)
    (answer,) = narrow.sample([REQUESTS[0]], SamplingSettings(max_tokens=18))
    assert isinstance(answer, Unsampled)


def test_a_lora_adapter_is_sampled_with_its_base(adapter: Path, model: Path) -> None:
    settings = SamplingSettings(max_tokens=6)
    opened = open_on_cpu(adapter)
    answers = sampled(opened.sample(REQUESTS[:6], settings))
    for request, answer in zip(REQUESTS, answers, strict=False):
        tuned = sum_logps_of(adapter, request.prompt, answer.token_ids)
        base = sum_logps_of(model, request.prompt, answer.token_ids)
        assert answer.sum_logps == pytest.approx(tuned, abs=1e-3)
        assert abs(tuned - base) > 0.01
    assert opened.fingerprint != open_on_cpu(model).fingerprint


# Choosing an engine


def test_the_union_names_its_kinds() -> None:
    adapter = TypeAdapter[Any](SamplerConfig)
    assert isinstance(adapter.validate_python({"kind": "vllm", "dtype": "float32"}), VllmSampler)
    with pytest.raises(ValidationError, match="'auto', 'vllm', 'transformers', 'server'"):
        adapter.validate_python({"kind": "vlm"})


def test_auto_without_a_gpu_is_transformers(model: Path) -> None:
    opened = open_sampler(AutoSampler(), ModelSource(path=str(model)), Runtime(device="cpu"))
    assert opened.name == "transformers"


def test_vllm_where_it_is_missing_says_how_to_install_it(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "vllm_is_installed", lambda: False)
    with pytest.raises(ConfigError, match="make vllm") as raised:
        open_sampler(VllmSampler(), ModelSource(path=str(model)), Runtime())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("config", [AutoSampler(), TransformersSampler()])
def test_a_missing_checkpoint_is_named(config: Any, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="nowhere"):
        open_sampler(config, ModelSource(path=str(tmp_path / "nowhere")), Runtime(device="cpu"))


# The real vLLM engine, in a process of its own: it changes the process it lives in.

WORKER = """
import gc, json, os, sys
from dataclasses import asdict
import torch
from evals.models.checkpoints import ModelSource
from evals.models.samplers import SampleRequest, SamplingSettings, VllmSampler, open_sampler
from schemas.stage import Runtime

def resident():
    gc.collect()
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

job = json.loads(sys.stdin.read())
requests = [SampleRequest(**r) for r in job["requests"]]
watched = ("HF_HUB_OFFLINE", "LD_PRELOAD", "OMP_NUM_THREADS", "VLLM_ENABLE_V1_MULTIPROCESSING")
before = [os.environ.get(n) for n in watched], torch.get_num_threads(), torch.set_num_threads
found = {}
for name, path in job["models"].items():
    sampler = open_sampler(VllmSampler(), ModelSource(path=path), Runtime(device="cpu"))
    drawn = {
        key: [asdict(a) for a in sampler.sample(requests, SamplingSettings(**settings))]
        for key, settings in job["settings"].items()
    }
    first = SamplingSettings(**job["settings"]["plain"])
    drawn["alone"] = [asdict(sampler.sample([r], first)[0]) for r in requests]
    found[name] = {"name": sampler.name, "fingerprint": sampler.fingerprint, **drawn}
    open_bytes = resident()
    sampler.close()
    found[name]["freed"] = open_bytes - resident()
after = [os.environ.get(n) for n in watched], torch.get_num_threads(), torch.set_num_threads
found["restored"] = before == after
print("RESULT" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def vllm_results(model: Path, adapter: Path) -> dict[str, Any]:
    """Answers of two engines, opened one after the other in one process."""
    job = {
        "models": {"model": str(model), "adapter": str(adapter)},
        "requests": [vars(r) for r in [*REQUESTS, TOO_LONG]],
        "settings": {
            "plain": {"max_tokens": 8},
            "again": {"max_tokens": 8},
            "greedy": {"max_tokens": 8, "temperature": 0},
            "narrow": {"max_tokens": 8, "temperature": 0.7, "top_p": 0.8},
        },
    }
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
    results: dict[str, Any] = json.loads(done.stdout.rpartition("RESULT")[2])
    return results


@pytest.mark.vllm
@pytest.mark.parametrize("policy", ["model", "adapter"])
@pytest.mark.parametrize("settings", ["plain", "greedy", "narrow"])
def test_vllm_and_transformers_agree_on_sum_logps(
    vllm_results: dict[str, Any], model: Path, adapter: Path, policy: str, settings: str
) -> None:
    folder = {"model": model, "adapter": adapter}[policy]
    answers = vllm_results[policy][settings]
    for request, answer in zip(REQUESTS, answers, strict=False):
        expected = sum_logps_of(folder, request.prompt, answer["token_ids"])
        assert answer["sum_logps"] == pytest.approx(expected, abs=1e-3)


@pytest.mark.vllm
@pytest.mark.parametrize("policy", ["model", "adapter"])
def test_vllm_and_transformers_agree_on_everything_greedy(
    vllm_results: dict[str, Any], model: Path, adapter: Path, policy: str
) -> None:
    opened = open_on_cpu({"model": model, "adapter": adapter}[policy])
    settings = SamplingSettings(max_tokens=8, temperature=0)
    ours = sampled(opened.sample(REQUESTS, settings))
    theirs = vllm_results[policy]["greedy"][: len(REQUESTS)]
    for one, two in zip(ours, theirs, strict=True):
        assert one.token_ids == two["token_ids"]
        assert (one.text, one.finish_reason) == (two["text"], two["finish_reason"])
    assert vllm_results[policy]["name"] == "vllm"
    assert vllm_results[policy]["fingerprint"] == opened.fingerprint


@pytest.mark.vllm
def test_vllm_completions_depend_on_prompt_and_seed_alone(vllm_results: dict[str, Any]) -> None:
    results = vllm_results["model"]
    assert results["plain"] == results["again"]
    assert [a.get("token_ids") for a in results["plain"]] == [
        a.get("token_ids") for a in results["alone"]
    ]
    assert len({tuple(a.get("token_ids", ())) for a in results["plain"]}) > len(REQUESTS) // 2


@pytest.mark.vllm
def test_vllm_refuses_a_prompt_without_room_as_transformers_does(
    vllm_results: dict[str, Any], sampler: Sampler
) -> None:
    (ours,) = sampler.sample([TOO_LONG], SamplingSettings(max_tokens=8))
    assert vllm_results["model"]["plain"][-1] == vars(ours)


@pytest.mark.vllm
def test_vllm_leaves_the_process_as_it_was(vllm_results: dict[str, Any]) -> None:
    assert vllm_results["restored"]


@pytest.mark.vllm
def test_vllm_gives_its_memory_back_when_it_is_closed(vllm_results: dict[str, Any]) -> None:
    """Its cache of keys and values alone is 1 GiB; the next stage shares the memory."""
    for name in ("model", "adapter"):
        assert vllm_results[name]["freed"] > 0.8 * 2**30
