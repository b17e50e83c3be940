"""The sampler that talks to a server: the real one on CPU, and ones that fail."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.models.checkpoints import ModelSource, load_causal_lm, load_tokenizer
from evals.models.http import retrying
from evals.models.rendering import ChatRenderer
from evals.models.samplers import (
    SampledCompletion,
    SampleRequest,
    SamplingSettings,
    ServerSampler,
    TransformersSampler,
    Unsampled,
)
from schemas.errors import BackendError, ConfigError
from schemas.labels import Messages
from schemas.stage import Runtime, SamplerServerRuntime
from tests.fixtures.tiny_models import tiny_adapter, tiny_llama
from tests.fixtures.vllm_server import vllm_server

KEY = "sk-sampled-3c4d5e"


def ask(text: str) -> Messages:
    return [{"role": "user", "content": text}]


REQUESTS = [
    SampleRequest(str(i), ask(f"what does {'anna ' * (i % 5)}like?"), seed=100 + i)
    for i in range(24)
]
TOO_LONG = SampleRequest("long", ask("x" * 200), seed=1)
SETTINGS = SamplingSettings(max_tokens=8, temperature=0.7, top_p=0.8)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLER_KEY", KEY)
    monkeypatch.setattr(retrying, "_FIRST_BACKOFF_SECONDS", 0.01)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="module")
def adapter(model: Path) -> Path:
    return tiny_adapter(model.with_name("adapter"), model)


def opened(url: str, folder: Path, **config: Any) -> Any:
    sampler = ServerSampler.model_validate(
        {"base_url": url, "api_key_env": "SAMPLER_KEY", **config}
    )
    calls = SamplerServerRuntime(concurrency=16, attempts=3, give_up_after=4, timeout_seconds=60)
    return sampler.open(ModelSource(path=str(folder)), Runtime(sampler_server=calls))


def sum_logps_of(folder: Path, prompt: Messages, completion: list[int]) -> float:
    """By one plain forward pass."""
    source = ModelSource(path=str(folder))
    ids = ChatRenderer(load_tokenizer(source)).prompt_ids(prompt)
    with torch.no_grad():
        logits = load_causal_lm(source, torch.device("cpu"))(torch.tensor([ids + completion]))
    logps = logits.logits[0].log_softmax(-1)
    return float(sum(logps[len(ids) - 1 + i, token] for i, token in enumerate(completion)))


# The real server


@pytest.fixture(scope="module")
def url(model: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("log") / "server.log"
    seeds = ("--no-enable-chunked-prefill", "--max-num-batched-tokens", "8192")
    lora = ("--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"tuned={adapter}")
    with vllm_server(model, log, KEY, "--served-model-name", "tiny", *seeds, *lora) as url:
        yield url


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "tuned"])
def test_sum_logps_are_the_models_own_and_a_rerun_gives_the_same(
    url: str, model: Path, adapter: Path, name: str
) -> None:
    folder = {"tiny": model, "tuned": adapter}[name]
    sampler = opened(url, folder, model=name)
    answers = sampler.sample(REQUESTS, SETTINGS)
    for request, answer in zip(REQUESTS, answers, strict=True):
        assert isinstance(answer, SampledCompletion)
        expected = sum_logps_of(folder, request.prompt, answer.token_ids)
        assert answer.sum_logps == pytest.approx(expected, abs=1e-3)
    again = opened(url, folder, model=name).sample(REQUESTS[::-1], SETTINGS)[::-1]
    assert [a.token_ids for a in again] == [a.token_ids for a in answers]
    assert {a.finish_reason for a in answers} <= {"stop", "length"}


@pytest.mark.vllm
@pytest.mark.slow
def test_greedy_is_what_transformers_writes(url: str, model: Path) -> None:
    greedy = SamplingSettings(max_tokens=8, temperature=0)
    theirs = opened(url, model, model="tiny").sample([*REQUESTS, TOO_LONG], greedy)
    local = TransformersSampler().open(ModelSource(path=str(model)), Runtime(device="cpu"))
    ours = local.sample([*REQUESTS, TOO_LONG], greedy)
    assert [getattr(a, "token_ids", a) for a in theirs] == [
        getattr(a, "token_ids", a) for a in ours
    ]
    assert [getattr(a, "text", a) for a in theirs] == [getattr(a, "text", a) for a in ours]
    assert isinstance(theirs[-1], Unsampled)
    assert theirs[-1].reason == "prompt_too_long"


@pytest.mark.vllm
@pytest.mark.slow
def test_the_server_must_have_the_policy(
    url: str, model: Path, adapter: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no model 'other', only tiny, tuned"):
        opened(url, model, model="other")
    with pytest.raises(ConfigError, match="other weights than the policy"):
        opened(url, adapter, model="tiny")
    with pytest.raises(ConfigError, match="other weights than the policy"):
        opened(url, tiny_llama(tmp_path / "another", seed=7))


@pytest.mark.vllm
@pytest.mark.slow
def test_of_several_models_the_policys_weights_are_taken(
    url: str, model: Path, adapter: Path
) -> None:
    greedy = SamplingSettings(max_tokens=8, temperature=0)
    for folder, name in ((model, "tiny"), (adapter, "tuned")):
        found, named = opened(url, folder), opened(url, folder, model=name)
        assert found.sample(REQUESTS[:4], greedy) == named.sample(REQUESTS[:4], greedy)


@pytest.mark.vllm
@pytest.mark.slow
def test_a_wrong_key_stops_in_one_line(
    url: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMPLER_KEY", "sk-wrong")
    with pytest.raises(BackendError, match="status 401") as raised:
        opened(url, model, model="tiny")
    assert "sk-" not in str(raised.value)
    assert "\n" not in str(raised.value)


# Servers that fail

Answer = Callable[[dict[str, Any], int], tuple[int, Any]]
ELSEWHERE = {"root": "some/model", "max_model_len": 128}


class Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A client that has given up is no news."""


@pytest.fixture
def serving() -> Iterator[Callable[..., str]]:
    """Starts servers: `answer` gets a request and the number of those before it."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer, *names: str) -> str:
        served = [{"id": name, **ELSEWHERE} for name in names or ("tiny",)]
        asked: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(200, {"data": served})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                asked.append(body)
                self.reply(*answer(body, len(asked) - 1))

            def reply(self, status: int, value: Any) -> None:
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        server = Quiet(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def wrote(*ids: int, **more: Any) -> tuple[int, Any]:
    logprobs = {"token_logprobs": [-0.5] * len(ids)}
    return 200, {"choices": [{"text": "?", "token_ids": ids, "logprobs": logprobs, **more}]}


def test_a_busy_server_is_asked_again(serving: Callable[..., str], model: Path) -> None:
    url = serving(lambda body, before: wrote(40, 41) if before % 3 else (503, {"error": "busy"}))
    answers = opened(url, model).sample(REQUESTS[:6], SETTINGS)
    assert [a.token_ids for a in answers] == [[40, 41]] * 6
    assert [a.sum_logps for a in answers] == [-1.0] * 6


def test_every_request_has_its_own_seed_and_the_models_distribution(
    serving: Callable[..., str], model: Path
) -> None:
    bodies: list[dict[str, Any]] = []

    def answer(body: dict[str, Any], before: int) -> tuple[int, Any]:
        bodies.append(body)
        return wrote(40)

    opened(serving(answer), model).sample(REQUESTS[:3], SETTINGS)
    assert sorted(body["seed"] for body in bodies) == [100, 101, 102]
    renderer = ChatRenderer(load_tokenizer(ModelSource(path=str(model))))
    wanted = [renderer.prompt_ids(r.prompt) for r in REQUESTS[:3]]
    assert sorted(body["prompt"] for body in bodies) == sorted(wanted)
    for body in bodies:  # whatever the model's generation_config.json says on the server
        assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (0, 0.0, 1.0)
        assert body["stop_token_ids"] == renderer.end_ids


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"logprobs": {"token_logprobs": [-0.1, float("nan")]}}, "log-probability nan"),
        ({"logprobs": {"token_logprobs": [-0.1, float("-inf")]}}, "log-probability -inf"),
        ({"logprobs": {"token_logprobs": [0.5, -0.1]}}, "log-probability 0.5"),
        ({"token_ids": [40, 10**9]}, "token 1000000000, which the tokenizer"),
        ({"token_ids": [-1, 40]}, "token -1, which the tokenizer"),
        (
            {"token_ids": [40] * 5, "logprobs": {"token_logprobs": [-0.1] * 5}},
            "5 tokens where 4 were asked for",
        ),
    ],
)
def test_numbers_that_no_model_can_have_written_cost_one_completion(
    serving: Callable[..., str], model: Path, choice: dict[str, Any], words: str
) -> None:
    url = serving(lambda body, before: wrote(40, 41, **choice))
    (answer,) = opened(url, model).sample(REQUESTS[:1], SamplingSettings(max_tokens=4))
    assert isinstance(answer, Unsampled)
    assert answer.reason == "malformed_reply"
    assert words in answer.detail


@pytest.mark.parametrize(
    "choice", [{"token_ids": None}, {"logprobs": None}, {"token_ids": [1, 2]}, {"token_ids": "x"}]
)
def test_a_server_that_hides_its_tokens_is_refused(
    serving: Callable[..., str], model: Path, choice: dict[str, Any]
) -> None:
    url = serving(lambda body, before: wrote(40, **choice))
    with pytest.raises(BackendError, match="does not say which tokens it wrote") as raised:
        opened(url, model).sample(REQUESTS[:3], SETTINGS)
    assert "\n" not in str(raised.value)


def test_a_request_that_cannot_work_is_unsampled(serving: Callable[..., str], model: Path) -> None:
    too_long = {"error": {"message": "This model's maximum context length is 10 tokens"}}
    url = serving(lambda body, before: (400, too_long) if body["seed"] == 101 else wrote(40))
    answers = opened(url, model).sample(REQUESTS[:3], SETTINGS)
    assert [type(a) for a in answers] == [SampledCompletion, Unsampled, SampledCompletion]
    assert answers[1].reason == "prompt_too_long"


def test_models_that_cannot_be_told_apart_are_named(
    serving: Callable[..., str], model: Path
) -> None:
    url = serving(lambda body, before: wrote(40, text=body["model"]), "one", "two")
    with pytest.raises(ConfigError, match=r"several models \(one, two\); name the policy"):
        opened(url, model)
    assert opened(url, model, model="two").sample(REQUESTS[:1], SETTINGS)


def test_a_server_that_stays_down_stops_the_stage(serving: Callable[..., str], model: Path) -> None:
    url = serving(lambda body, before: (500, {"error": {"message": f"down {KEY}"}}))
    with pytest.raises(BackendError, match="run the same command again") as raised:
        opened(url, model).sample(REQUESTS, SETTINGS)
    assert KEY not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_nobody_at_the_address_is_one_line(model: Path) -> None:
    with pytest.raises(BackendError, match="does not answer") as raised:
        opened("http://127.0.0.1:9/v1", model)
    assert "\n" not in str(raised.value)


def test_a_key_that_is_not_set_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAMPLER_KEY")
    with pytest.raises(ConfigError, match="SAMPLER_KEY: not set"):
        opened("http://127.0.0.1:9/v1", model)
