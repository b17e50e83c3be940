"""A judge's server is looked at before anything is paid for."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from evals.judges import JudgeKind
from evals.judges.openai import reachable
from evals.judges.openai.reachable import check_judge_servers, judge_servers
from schemas.errors import ConfigError, UnreachableError
from schemas.stage import JudgeServerRuntime, Runtime
from tests.fixtures.chaos_server import ChaosServer, Raw, chaos_server, error, prefers_longer
from tests.fixtures.comparisons import comparison
from tests.fixtures.patience import PATIENCE

NOWHERE = "http://127.0.0.1:9/v1"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChaosServer]:
    monkeypatch.setattr(reachable, "_SECONDS_BETWEEN", 0.01)
    with chaos_server() as running:
        yield running


def kind(url: str, **settings: Any) -> Any:
    made = {"kind": "llm", "server": {"base_url": url, "model": "chaos", **settings}}
    return TypeAdapter[Any](JudgeKind).validate_python(made)


def listing(*names: str) -> Raw:
    return Raw(body=json.dumps({"data": [{"id": name} for name in names]}).encode())


def test_nobody_there_is_said_after_three_knocks(server: ChaosServer, tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="nobody is there"):
        check_judge_servers(kind(NOWHERE), Runtime())
    runtime = Runtime(judge_server=JudgeServerRuntime(cache=str(tmp_path)))
    with pytest.raises(UnreachableError, match="correct its address"):
        kind(NOWHERE).open(None, runtime).judge([comparison("q?", "x", "y")])


def test_what_was_answered_needs_no_server(server: ChaosServer, tmp_path: Path) -> None:
    runtime = Runtime(judge_server=JudgeServerRuntime(cache=str(tmp_path)))
    one = comparison("q?", "a longer one", "x")
    first = kind(server.url).open(None, runtime).judge([one])
    asked = server.total_answered()
    assert kind(server.url).open(None, runtime).judge([one]) == first
    assert server.total_answered() == asked


def test_keys_and_models(server: ChaosServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.models = listing("chaos", "other")
    check_judge_servers(kind(server.url), Runtime())
    assert not server.bodies, "nothing is paid for"
    server.models = listing("qwen", "llama")
    check_judge_servers(kind(server.url), Runtime())
    assert [body["max_tokens"] for body in server.bodies] == [1], "an alias may answer"
    server.answer = lambda body: error(404, "no such model")
    with pytest.raises(ConfigError, match="has no model 'chaos', but llama, qwen; correct"):
        check_judge_servers(kind(server.url), Runtime())
    server.models = error(401, "bad key")
    with pytest.raises(UnreachableError, match="status 401: bad key"):
        check_judge_servers(kind(server.url), Runtime())
    server.models = error(404, "no such path")
    check_judge_servers(kind(server.url), Runtime())
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match="NO_SUCH_KEY: not set"):
        check_judge_servers(kind(server.url, api_key_env="NO_SUCH_KEY"), Runtime())


def test_a_panels_servers_are_all_looked_at() -> None:
    panel = {"kind": "panel", "members": [{"kind": "length"}, kind(NOWHERE).model_dump()]}
    made = TypeAdapter[Any](JudgeKind).validate_python(panel)
    assert [one.base_url for one in judge_servers(made)] == [NOWHERE]
    assert judge_servers(TypeAdapter[Any](JudgeKind).validate_python({"kind": "length"})) == []


def test_an_interrupt_takes_in_what_is_being_answered(server: ChaosServer, tmp_path: Path) -> None:
    """The consumer stops after the first verdict: the calls at the server are not thrown away."""
    server.delay_seconds = 0.2
    runtime = Runtime(judge_server=JudgeServerRuntime(cache=str(tmp_path), concurrency=4))
    judge = kind(server.url).open(None, runtime)
    shown = [comparison(f"question {n}?", "a longer one", "x") for n in range(40)]
    stream = judge.stream(shown)
    next(stream)
    stream.close()
    paid = server.total_answered()
    assert paid > 1
    server.delay_seconds = 0
    judge = kind(server.url).open(None, runtime)
    judge.judge(shown)
    assert server.total_answered() == len(shown), "nothing was asked twice"
    assert judge.usage["from_cache"] == paid


def test_a_stop_does_not_wait_for_calls_that_never_come(
    server: ChaosServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evals.judges.openai import client

    monkeypatch.setattr(client, "_PATIENCE_SECONDS", 0.1)
    server.answer = prefers_longer
    runtime = Runtime(
        judge_server=JudgeServerRuntime(cache=str(tmp_path), timeout_seconds=PATIENCE)
    )
    judge = kind(server.url).open(None, runtime)
    shown = [comparison("plain?", "a longer one", "x"), comparison("chaos:hang-always", "x", "y")]
    stream = judge.stream(shown)
    next(stream)
    started = time.monotonic()
    stream.close()
    assert time.monotonic() - started < PATIENCE
