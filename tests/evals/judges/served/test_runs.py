"""A judge behind a server through the command line: keys, money, kills and servers that refuse."""

import json
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from schemas.manifest import read_manifest
from tests.fixtures.chaos_server import (
    ChaosServer,
    Raw,
    chaos_server,
    error,
    prefers_longer,
)
from tests.fixtures.command_line import hashes, interrupt, on, prefline, refusal

KEY = "sk-test-7f3a9c51e2d8"
RECIPE = """
# prefline judge --recipe served.toml
# hardware: any CPU
name = "served"
description = "The food world, judged by a server"
hardware = "any CPU"
[ingest]
test_fraction = 0.5
[[ingest.datasets]]
kind = "food"
people = 20
demonstrations_per_person = 1
comparisons = 400
[judge]
kind = "llm"
[judge.server]
base_url = "{url}"
model = "chaos"
api_key_env = "PREFLINE_TEST_KEY"
[runtime.judge_server]
concurrency = 8
timeout_seconds = 60
deadline_seconds = 300
give_up_after = 5
price_per_million_prompt_tokens = 1000
price_per_million_completion_tokens = 2000
"""
COST_OF_A_CALL = (100 * 1000 + 10 * 2000) / 1e6


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFLINE_TEST_KEY", KEY)


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with chaos_server() as running:
        yield running


@pytest.fixture
def recipe(server: ChaosServer, tmp_path: Path) -> Path:
    path = tmp_path / "served.toml"
    path.write_text(RECIPE.format(url=server.url))
    return path


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ingested")
    recipe = folder / "served.toml"
    recipe.write_text(RECIPE.format(url="http://127.0.0.1:1/v1"))
    done = prefline(*on(folder / "run", "ingest", recipe=recipe))
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture
def run(ingested: Path, tmp_path: Path) -> Path:
    """A run directory with its comparisons, not judged yet."""
    return Path(shutil.copytree(ingested, tmp_path / "run"))


def judged(run: Path, recipe: Path, *settings: str) -> Any:
    return prefline(*on(run, "judge", *settings, recipe=recipe))


def everything_written(run: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file())


def test_the_key_is_sent_and_appears_nowhere(server: ChaosServer, run: Path, recipe: Path) -> None:
    def echo(body: Mapping[str, Any]) -> Raw:
        raw = prefers_longer(body)
        return Raw(body=raw.body.replace(b'"A"', json.dumps(f"Verdict: A\n{KEY}").encode()))

    server.answer = echo
    done = judged(run, recipe, "judge.server.logprobs=none")
    assert done.returncode == 0, done.stderr
    assert server.keys == {KEY}
    server.answer = lambda body: error(401, f"Incorrect API key provided: {KEY}")
    refused = judged(run, recipe, "judge.server.model=other")
    assert "status 401: Incorrect API key provided: ***" in refusal(refused)
    server.answer = lambda body: error(500, f"cannot route {KEY}")
    failed = judged(run, recipe, "judge.server.model=third", "runtime.judge_server.attempts=1")
    assert "5 calls in a row failed" in refusal(failed)
    for text in (
        everything_written(run),
        *(d.stdout.encode() + d.stderr.encode() for d in (done, refused, failed)),
    ):
        assert KEY.encode() not in text
        assert b"Bearer" not in text


def test_without_the_key_nothing_is_asked(
    server: ChaosServer, run: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFLINE_TEST_KEY")
    assert "PREFLINE_TEST_KEY: not set in the environment" in refusal(judged(run, recipe))
    assert not server.asked


def test_a_key_in_the_recipe_is_refused_and_not_repeated(run: Path, recipe: Path) -> None:
    for setting in (f"api_key_env={KEY}", f"base_url=https://user:{KEY}@api.example/v1"):
        done = judged(run, recipe, f"judge.server.{setting}")
        assert done.returncode == 2
        assert KEY not in done.stdout + done.stderr, done.stderr


def test_the_cap_stops_the_stage_and_raising_it_goes_on(
    server: ChaosServer, run: Path, recipe: Path
) -> None:
    cap = 100 * COST_OF_A_CALL
    stopped = refusal(judged(run, recipe, f"runtime.judge_server.max_cost={cap}"))
    assert "spent" in stopped
    assert "runtime.judge_server.max_cost = 12;" in stopped
    assert "raise it and run the same command again" in stopped
    assert 50 < server.total_answered() <= 100
    same = refusal(judged(run, recipe, f"runtime.judge_server.max_cost={cap}"))
    assert "spent" in same
    assert server.total_answered() <= 100, "a second try gets no new money"
    done = judged(run, recipe, "runtime.judge_server.max_cost=1000")
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(run / "judge")
    assert manifest is not None
    calls = manifest.counts["verdicts"]
    assert server.total_answered() == calls
    assert max(server.answered.values()) == 1
    assert manifest.counts["judge_prompt_tokens"] == 100 * calls
    assert manifest.counts["judge_completion_tokens"] == 10 * calls
    assert manifest.counts["judge_cost_millionths"] == round(calls * COST_OF_A_CALL * 1e6)


def test_a_cap_needs_prices(run: Path, recipe: Path) -> None:
    free = [
        f"runtime.judge_server.price_per_million_{kind}_tokens=0"
        for kind in ("prompt", "completion")
    ]
    line = refusal(judged(run, recipe, *free, "runtime.judge_server.max_cost=1"))
    assert "set price_per_million_prompt_tokens" in line


def test_a_killed_run_loses_at_most_the_calls_in_flight(
    server: ChaosServer, run: Path, recipe: Path, ingested: Path, tmp_path: Path
) -> None:
    server.delay_seconds = 0.02
    arguments = on(run, "judge", recipe=recipe)
    for enough in (60, 200):
        interrupt(arguments, lambda n=enough: server.total_answered() >= n, signal.SIGKILL)  # type: ignore[misc]
    server.delay_seconds = 0
    before = server.total_answered()
    assert before >= 200
    done = prefline(*arguments)
    assert done.returncode == 0, done.stderr
    assert "continuing where it was interrupted" in done.stderr
    manifest = read_manifest(run / "judge")
    assert manifest is not None
    calls = manifest.counts["verdicts"]
    twice = sum(n - 1 for n in server.answered.values())
    assert server.total_answered() == calls + twice
    assert twice <= 2 * 8, "two kills with 8 calls in flight each"
    other = shutil.copytree(ingested, tmp_path / "undisturbed")
    assert prefline(*on(other, "judge", recipe=recipe)).returncode == 0
    assert hashes(other / "judge") == hashes(run / "judge")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(
    server: ChaosServer, run: Path, recipe: Path, number: int
) -> None:
    server.delay_seconds = 0.05
    arguments = on(run, "judge", recipe=recipe)
    done = interrupt(arguments, lambda: server.total_answered() >= 30, number)
    assert "interrupted; nothing is lost" in refusal(done)
    server.delay_seconds = 0
    assert prefline(*arguments).returncode == 0
    assert sum(n - 1 for n in server.answered.values()) <= 8


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda body: error(404, "no such model"), "status 404: no such model"),
        (lambda body: error(429, "pay first", "insufficient_quota"), "status 429: pay first"),
        (lambda body: error(429, "tomorrow", **{"Retry-After": "3600"}), "asks to wait 3,600 s"),
        (lambda body: Raw(302, headers={"Location": "http://127.0.0.1:1/"}), "status 302"),
        (lambda body: error(400, "no such field"), "5 calls in a row failed"),
    ],
    ids=["404", "quota", "tomorrow", "redirect", "bad requests"],
)
def test_a_server_that_answers_nobody_stops_the_stage_in_one_line(
    server: ChaosServer,
    run: Path,
    recipe: Path,
    answer: Callable[[Mapping[str, Any]], Raw],
    words: str,
) -> None:
    server.answer = answer
    line = refusal(judged(run, recipe))
    assert words in line
    assert server.url in line
    assert "run the same command again" in line


def test_nobody_listening_is_one_line(run: Path, recipe: Path) -> None:
    line = refusal(
        judged(
            run,
            recipe,
            "judge.server.base_url=http://127.0.0.1:9/v1",
            "runtime.judge_server.attempts=1",
        )
    )
    assert "http://127.0.0.1:9/v1: nobody is there" in line
