"""A judge behind a server that does everything wrong that servers do."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from evals.judges import LlmJudge
from evals.models.http import retrying
from schemas.labels import Comparison, LabelProbabilities, Unscored, Verdict
from schemas.stage import JudgeServerRuntime, Runtime
from tests.fixtures.chaos_server import (
    CHAOS,
    ChaosServer,
    Raw,
    chaos_server,
    error,
    prefers_longer,
    said,
)
from tests.fixtures.comparisons import comparison, judge_to_rows

SERVER = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChaosServer]:
    monkeypatch.setattr(retrying, "_FIRST_BACKOFF_SECONDS", 0.05)
    with chaos_server() as running:
        yield running


def runtime(cache: Path, **settings: Any) -> Runtime:
    # Long enough for a slow machine to answer, short enough to wait for what hangs.
    brief = {"timeout_seconds": 3, "deadline_seconds": 60, "attempts": 3, "cache": str(cache)}
    return Runtime(judge_server=JudgeServerRuntime.model_validate(brief | settings))


def open_judge(running: ChaosServer, cache: Path, **settings: Any) -> Any:
    of_server = settings.pop("server", {})
    of_runtime = settings.pop("runtime", {})
    where = {"base_url": running.url, "model": "chaos", **of_server}
    kind = LlmJudge.model_validate({"server": where, **settings})
    return kind.open(None, runtime(cache, **of_runtime))


EXPECTED: dict[str, str | None] = {name: None for name in CHAOS if name.endswith("once")} | {
    "error-always": "server_error",
    "hang-always": "timeout",
    "cut-always": "connection",
    "half-json-always": "not_json",
    "html-always": "wrong_content_type",
    "empty-always": "empty_choices",
    "list": "malformed_reply",
    "deep": "not_json",
    "refusal-field": "refused",
    "refusal-text": "refused",
    "filtered-reply": "refused",
    "filtered-request": "refused",
    "huge": "reply_too_large",
    "null-content": "no_verdict",
    "mumbles-always": "no_verdict",
    "off-the-menu": "no_verdict",
    "too-long": "prompt_too_long",
    "bad-request": "bad_request",
}


def chaotic() -> dict[str, Comparison]:
    return {name: comparison(f"chaos:{name} ?", "a longer one", "short") for name in CHAOS}


def outcome(verdict: Verdict) -> str | None:
    return verdict.reason if isinstance(verdict, Unscored) else None


def test_every_comparison_ends_as_a_verdict_or_unscored_with_its_reason(
    server: ChaosServer, tmp_path: Path
) -> None:
    assert set(EXPECTED) == set(CHAOS)
    asked = chaotic()
    plain = [comparison(f"question {i}?", "a longer one", "short") for i in range(60)]
    judge = open_judge(server, tmp_path, runtime={"max_response_bytes": 100_000})
    verdicts = judge.judge([*asked.values(), *plain])
    found = dict(zip(asked, map(outcome, verdicts), strict=False))
    assert found == EXPECTED
    for verdict in verdicts[len(asked) :]:
        assert isinstance(verdict, LabelProbabilities)
        assert verdict.preference == "A"
        assert verdict.label_mass == pytest.approx(0.8187 + 0.1353 + 0.0183, abs=1e-3)
    never_a_tie = [v for v in verdicts if isinstance(v, LabelProbabilities)]
    assert {v.preference.value for v in never_a_tie} == {"A"}
    assert max(server.answered.values()) == 1

    answered = server.total_answered()
    again = open_judge(server, tmp_path, runtime={"max_response_bytes": 100_000})
    second = again.judge([*asked.values(), *plain])
    assert list(map(outcome, second)) == list(map(outcome, verdicts))
    assert server.total_answered() == answered, "nothing that was answered is asked again"


def test_the_servers_wish_to_wait_is_honoured(server: ChaosServer, tmp_path: Path) -> None:
    import time

    started = time.monotonic()
    (verdict,) = open_judge(server, tmp_path).judge([chaotic()["busy-once"]])
    assert isinstance(verdict, LabelProbabilities)
    assert time.monotonic() - started >= 1.0


def test_concurrency_finds_what_the_server_can_take(server: ChaosServer, tmp_path: Path) -> None:
    server.capacity, server.delay_seconds = 12, 0.01
    judge = open_judge(
        server, tmp_path, runtime={"concurrency": 64, "attempts": 30, "deadline_seconds": 60}
    )
    shown = [comparison(f"question {i}?", "a longer one", "short") for i in range(400)]
    verdicts = judge.judge(shown)
    assert all(isinstance(v, LabelProbabilities) for v in verdicts)
    assert server.turned_away > 0
    assert server.turned_away < 200, "it learns"
    assert 4 < server.most_in_flight < 64
    assert 2 <= judge.usage["in_flight_limit"] <= 24


def test_a_free_server_gets_all_that_is_allowed(server: ChaosServer, tmp_path: Path) -> None:
    server.delay_seconds = 0.5
    judge = open_judge(server, tmp_path, runtime={"concurrency": 24})
    judge.judge([comparison(f"question {i}?", "longer", "one") for i in range(150)])
    assert server.most_in_flight == 24


def test_both_orders_go_into_the_table_with_tokens_and_replies(
    server: ChaosServer, tmp_path: Path
) -> None:
    judge = open_judge(server, tmp_path / "cache", runtime={"max_response_bytes": 100_000})
    shown = [*chaotic().values(), *(comparison(f"q {i}?", "a longer one", "x") for i in range(20))]
    rows = judge_to_rows(judge, iter(shown), tmp_path)
    assert len(rows) == 2 * len(shown)
    scored = [row for row in rows if row["verdict"]]
    assert {row["verdict"] for row in scored} == {"A"}, "whatever the order shown"
    assert {row["prompt_tokens"] for row in scored} <= {100, 200}, "200 where asked again"
    mumbled = [row for row in rows if row["unscored_reason"] == "no_verdict" and row["raw"]]
    assert {row["raw"] for row in mumbled} == {"Both have their merits.", "Verdict: C"}
    assert {row["prompt_tokens"] for row in mumbled} == {300}, "three were paid for"


def test_a_server_without_logprobs_is_read_in_words(server: ChaosServer, tmp_path: Path) -> None:
    def picky(body: Mapping[str, Any]) -> Raw:
        if "logprobs" in body:
            return error(400, "logprobs are not supported with this model")
        return prefers_longer(body)

    server.answer = picky
    shown = [comparison(f"question {i}?", "longer", "one") for i in range(30)]
    judge = open_judge(server, tmp_path)
    for verdict in judge.judge(shown):
        assert isinstance(verdict, LabelProbabilities)
        assert (verdict.p_a, verdict.label_mass) == (1, None)
    server.bodies.clear()
    more = [comparison(f"another {i}?", "longer", "one") for i in range(5)]
    open_judge(server, tmp_path).judge(more)
    assert len(server.bodies) == 5, "what the server cannot do is remembered"
    assert not any("logprobs" in body for body in server.bodies)
    strict = open_judge(server, tmp_path / "strict", server={"logprobs": "top"})
    (verdict,) = strict.judge(more[:1])
    assert isinstance(verdict, Unscored)
    assert verdict.reason == "no_logprobs"


def test_reasons_first_then_the_verdict(server: ChaosServer, tmp_path: Path) -> None:
    def reasons(body: Mapping[str, Any]) -> Raw:
        if len(body["messages"]) == 1:
            return said("A is longer. Verdict: A? No: both are good.")
        return said("Verdict: A\nOn second thought:\nVerdict: Tie")

    server.answer = reasons
    judge = open_judge(server, tmp_path, answer="reasoned")
    (verdict,) = judge.judge([comparison("q?", "x", "y")])
    assert isinstance(verdict, LabelProbabilities)
    assert verdict.preference == "Tie"
    assert verdict.prompt_tokens == 200
    first, second = server.bodies
    assert "logprobs" not in first
    assert first["max_tokens"] == 1024
    assert "Verdict: Tie" in first["messages"][0]["content"]
    assert [m["role"] for m in second["messages"]] == ["user", "assistant", "user"]


def test_settings_of_the_server_are_sent(server: ChaosServer, tmp_path: Path) -> None:
    sent = {
        "seed": 7,
        "temperature": 0.5,
        "max_tokens": 3,
        "token_limit_name": "max_completion_tokens",
        "extra": {"reasoning_effort": "low"},
        "logprobs": "none",
    }
    open_judge(server, tmp_path, server=sent).judge([comparison("q?", "longer", "y")])
    (body,) = server.bodies
    assert {k: v for k, v in body.items() if k != "messages"} == {
        "model": "chaos",
        "seed": 7,
        "temperature": 0.5,
        "max_completion_tokens": 3,
        "reasoning_effort": "low",
    }


def test_it_judges_inside_a_running_event_loop(server: ChaosServer, tmp_path: Path) -> None:
    async def scorer() -> list[Verdict]:
        return list(open_judge(server, tmp_path).judge([comparison("q?", "longer", "y")]))

    (verdict,) = asyncio.run(scorer())
    assert isinstance(verdict, LabelProbabilities)


def test_the_same_question_at_the_same_time_is_asked_once(
    server: ChaosServer, tmp_path: Path
) -> None:
    server.delay_seconds = 0.05
    same = comparison("q?", "twin", "twin")
    verdicts = open_judge(server, tmp_path).judge([same, same.swap(), same])
    assert len(set(map(repr, verdicts))) == 1
    assert server.total_answered() == 1


def test_min_label_mass_and_other_readings_cost_nothing(
    server: ChaosServer, tmp_path: Path
) -> None:
    one = comparison("q?", "longer", "y")
    (scored,) = open_judge(server, tmp_path).judge([one])
    (unscored,) = open_judge(server, tmp_path, min_label_mass=0.99).judge([one])
    assert isinstance(scored, LabelProbabilities)
    assert isinstance(unscored, Unscored)
    assert unscored.reason == "low_label_mass"
    assert server.total_answered() == 1


def test_a_judge_is_other_by_all_that_changes_its_verdicts(
    server: ChaosServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-1")
    same = [open_judge(server, tmp_path), open_judge(server, tmp_path / "elsewhere")]
    same += [open_judge(server, tmp_path, server={"api_key_env": "SOME_KEY"})]
    same += [open_judge(server, tmp_path, runtime={"concurrency": 3, "max_cost": None})]
    other = [
        open_judge(server, tmp_path, rubric="helpfulness"),
        open_judge(server, tmp_path, answer="reasoned"),
        open_judge(server, tmp_path, min_label_mass=0.1),
        open_judge(server, tmp_path, server={"model": "other"}),
        open_judge(server, tmp_path, server={"seed": 1}),
        open_judge(server, tmp_path, server={"extra": {"a": 1}}),
    ]
    assert len({j.fingerprint for j in same}) == 1
    assert len({j.fingerprint for j in [same[0], *other]}) == 1 + len(other)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "give model, for a judge in this process, or server"),
        ({"model": {"path": "m"}, "server": SERVER}, "and not both"),
        ({"server": SERVER, "prefill": "I say "}, "prefill: is the server's own business"),
        ({"model": {"path": "m"}, "answer": "reasoned", "prefill": "x"}, "belongs to answer label"),
        ({"server": SERVER, "overlong": "unscored"}, "overlong: is the server's own business"),
        ({"server": SERVER, "dtype": "bfloat16"}, "dtype: is the server's own business"),
        ({"server": SERVER | {"base_url": "localhost:8000"}}, "write http://"),
        ({"server": SERVER | {"base_url": "https://a/v1?key=b"}}, "write the address alone"),
        ({"server": SERVER | {"api_key_env": "sk-123"}}, "never the key itself"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LlmJudge.model_validate(settings)
