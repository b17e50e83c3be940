"""A contender behind an OpenAI-compatible server: asked in turns, and never guessed for."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from evals.models.contenders import ServedModel
from evals.models.samplers import (
    SampledCompletion,
    SampleRequest,
    SamplingSettings,
    TransformersSampler,
    Unsampled,
    open_sampler,
)
from schemas.errors import BackendError, ConfigError
from schemas.stage import Runtime, SamplerServerRuntime
from tests.fixtures.chaos_server import Raw, chaos_server, completion

SETTINGS = SamplingSettings(temperature=0.5, max_tokens=7)


def echo(body: Mapping[str, Any]) -> Raw:
    said = completion(body["messages"][-1]["content"].upper())
    return Raw(body=json.dumps(said).encode())


def request(text: str, seed: int = 1) -> SampleRequest:
    return SampleRequest(f"{text}/{seed}", [{"role": "user", "content": text}], seed)


def sampler(url: str, **runtime: Any) -> Any:
    server = SamplerServerRuntime(attempts=2, deadline_seconds=20, **runtime)
    source = ServedModel(server=url, model="m")
    return open_sampler(TransformersSampler(), source, Runtime(sampler_server=server))


def test_answers_come_in_order_with_the_settings_sent() -> None:
    with chaos_server(echo) as server:
        opened = sampler(server.url)
        found = opened.sample([request("one"), request("two", 2)], SETTINGS)
    assert [one.text for one in found] == ["ONE", "TWO"]
    assert all(isinstance(one, SampledCompletion) for one in found)
    assert {(one.num_tokens, one.sum_logps) for one in found} == {(10, None)}
    sent = {body["seed"]: body for body in server.bodies}
    assert sent[2]["messages"] == [{"role": "user", "content": "two"}]
    assert (sent[1]["temperature"], sent[1]["max_tokens"], sent[1]["model"]) == (0.5, 7, "m")


def test_a_prompt_that_is_refused_is_unsampled_and_the_others_are_answered() -> None:
    with chaos_server(echo) as server:
        names = ("too-long", "filtered-request", "filtered-reply", "null-content", "empty-once")
        found = sampler(server.url).sample(
            [request(f"chaos:{name}") for name in names] + [request("fine")], SETTINGS
        )
    reasons = [one.reason if isinstance(one, Unsampled) else one.text for one in found]
    assert reasons == [
        "prompt_too_long",
        "content_filter",
        "content_filter",
        "no_text",
        "CHAOS:EMPTY-ONCE",
        "FINE",
    ]


def test_a_server_that_stays_broken_stops_the_stage() -> None:
    with chaos_server(echo) as server, pytest.raises(BackendError, match="no completion after all"):
        sampler(server.url).sample([request("chaos:empty-always")], SETTINGS)


def test_a_key_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    source = ServedModel(server="http://127.0.0.1:9/v1", model="m", api_key_env="SOME_KEY")
    with pytest.raises(ConfigError, match="SOME_KEY: not set"):
        open_sampler(TransformersSampler(), source, Runtime())


def test_thoughts_that_a_server_keeps_apart_are_kept_apart() -> None:
    def thinking(body: Mapping[str, Any]) -> Raw:
        said = completion(None if body["seed"] == 2 else "4")
        said["choices"][0]["message"]["reasoning_content"] = "two and two"
        said["choices"][0]["finish_reason"] = "length" if body["seed"] == 2 else "stop"
        return Raw(body=json.dumps(said).encode())

    with chaos_server(thinking) as server:
        whole, cut = sampler(server.url).sample([request("q"), request("q", 2)], SETTINGS)
    assert (whole.text, whole.reasoning, whole.unfinished) == ("4", "two and two", False)
    assert (cut.text, cut.reasoning, cut.unfinished) == ("", "two and two", True)


def test_tools_and_template_arguments_of_a_row_are_sent() -> None:
    asked = replace(request("q"), tools='[{"type": "function"}]', chat_template_kwargs='{"a": 1}')
    with chaos_server(echo) as server:
        sampler(server.url).sample([asked], SETTINGS)
    assert server.bodies[0]["tools"] == [{"type": "function"}]
    assert server.bodies[0]["chat_template_kwargs"] == {"a": 1}
