"""One bad reply costs one verdict, whatever is in it; models that think are read after thinking."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from evals.judges import LlmJudge
from evals.models.http import retrying
from schemas.labels import Comparison, LabelProbabilities, Unscored, Verdict
from schemas.stage import JudgeServerRuntime, Runtime
from tests.fixtures.chaos_server import (
    ChaosServer,
    Raw,
    chaos_server,
    completion,
    error,
    prefers_longer,
    said,
)
from tests.fixtures.comparisons import comparison, judge_to_rows

Answer = Callable[[Mapping[str, Any]], Raw]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChaosServer]:
    monkeypatch.setattr(retrying, "_FIRST_BACKOFF_SECONDS", 0.01)
    with chaos_server() as running:
        yield running


def judge_of(running: ChaosServer, cache: Path, **settings: Any) -> Any:
    where = {"base_url": running.url, "model": "chaos", **settings.pop("server", {})}
    limits = {"timeout_seconds": 5, "attempts": 2, "max_response_bytes": 100_000}
    runtime = Runtime(
        judge_server=JudgeServerRuntime.model_validate(limits | {"cache": str(cache)})
    )
    return LlmJudge.model_validate({"server": where, **settings}).open(None, runtime)


BOMB = gzip.compress(b"0" * 20_000_000)


def with_logprob(text: str) -> bytes:
    body = json.dumps(completion("A", {"A": -0.1, "B": -7.0}))
    return body.replace("-7.0", text).encode()


BAD: dict[str, tuple[Raw, str | None]] = {
    "bomb": (
        Raw(body=BOMB, headers={"Content-Encoding": "gzip"}),
        "reply_too_large",
    ),
    "nested": (
        Raw(body=gzip.compress(BOMB), headers={"Content-Encoding": "gzip, gzip"}),
        "unasked_encoding",
    ),
    "brotli": (Raw(body=b"x", headers={"Content-Encoding": "br"}), "unasked_encoding"),
    "no-gzip": (Raw(body=b"x" * 50, headers={"Content-Encoding": "gzip"}), "not_unpacked"),
    "honest-gzip": (
        Raw(
            body=gzip.compress(json.dumps(completion("A")).encode()),
            headers={"Content-Encoding": "gzip"},
        ),
        None,
    ),
    "honest-deflate": (
        Raw(
            body=zlib.compress(json.dumps(completion("A")).encode()),
            headers={"Content-Encoding": "deflate"},
        ),
        None,
    ),
    "half-characters": (Raw(body=json.dumps(completion("\ud800 odd")).encode()), "no_verdict"),
    "half-in-model": (
        Raw(body=json.dumps(completion("A") | {"model": "\udfff"}).encode()),
        None,
    ),
    "deep-error": (Raw(status=400, body=b"[" * 90_000), "bad_request"),
    "infinite": (Raw(body=with_logprob("-Infinity")), None),
    "plus-infinite": (Raw(body=with_logprob("Infinity")), "malformed_reply"),
    "not-a-number": (Raw(body=with_logprob("NaN")), "malformed_reply"),
    "above-zero": (Raw(body=with_logprob("0.7")), "malformed_reply"),
    "endless-digits": (Raw(body=with_logprob("1" + "0" * 400)), "malformed_reply"),
    "more-digits": (Raw(body=with_logprob("-1" + "0" * 5000)), "not_json"),
    "text-for-number": (Raw(body=with_logprob('"x"')), "malformed_reply"),
    "cut": (said("Verdict: A\nVerdict: B", finish_reason="length"), "reply_cut"),
    "unclosed": (said("<think>Verdict: B"), "unclosed_thought"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_one_bad_reply_costs_one_verdict(server: ChaosServer, tmp_path: Path, name: str) -> None:
    raw, reason = BAD[name]
    server.answer = lambda body: raw if "bad one" in str(body) else prefers_longer(body)
    shown = [comparison("bad one?", "a longer one", "x"), comparison("q?", "a longer one", "x")]
    judge = judge_of(server, tmp_path / "cache")
    rows = judge_to_rows(judge, shown, tmp_path / "out")
    by_comparison = {row["comparison_id"]: row for row in rows if row["order"] == "ab"}
    bad, good = (by_comparison[one.comparison_id] for one in shown)
    assert bad["unscored_reason"] == reason
    assert good["verdict"] == "A"


def verdict_of(judge: Any, one: Comparison | None = None) -> Verdict:
    (verdict,) = judge.judge([one or comparison("q?", "a longer one", "x")])
    assert isinstance(verdict, LabelProbabilities | Unscored)
    return verdict


@pytest.mark.parametrize("status", [400, 403, 405, 422])
@pytest.mark.parametrize("words", ["you may not ask this model for logprobs", "forbidden"])
def test_a_server_that_refuses_logprobs_in_any_way_is_read_in_words(
    server: ChaosServer, tmp_path: Path, status: int, words: str
) -> None:
    server.answer = lambda body: (
        error(status, words) if "logprobs" in body else prefers_longer(body)
    )
    verdict = verdict_of(judge_of(server, tmp_path))
    assert isinstance(verdict, LabelProbabilities)
    assert (verdict.p_a, verdict.label_mass) == (1, None)


def test_a_server_that_refuses_everything_is_not_taken_for_one_without_logprobs(
    server: ChaosServer, tmp_path: Path
) -> None:
    from schemas.errors import BackendError

    server.answer = lambda body: error(403, "your key may not do this")
    with pytest.raises(BackendError, match="status 403: your key may not do this"):
        judge_of(server, tmp_path).judge([comparison("q?", "x", "y")])


def thinker(body: Mapping[str, Any]) -> Raw:
    """A model that thinks, for which 1,000 tokens are not too many."""
    if body["max_tokens"] < 1000:
        return Raw(
            body=json.dumps(
                completion(None, {"Okay": -0.1, "A": -5.0}, finish_reason="length")
                | {"usage": {"prompt_tokens": 10, "completion_tokens": body["max_tokens"]}}
            ).encode()
        )
    return said("B", reasoning_content="Verdict: A? No.")


def test_a_model_that_thinks_gets_room_and_is_read_after_thinking(
    server: ChaosServer, tmp_path: Path
) -> None:
    server.answer = thinker
    judge = judge_of(server, tmp_path)
    for question in ("one?", "two?"):
        verdict = verdict_of(judge, comparison(question, "x", "y"))
        assert isinstance(verdict, LabelProbabilities)
        assert verdict.preference == "B"
    assert [body["max_tokens"] for body in server.bodies] == [16, 16 + 4096, 16 + 4096]
    own = judge_of(server, tmp_path, server={"max_tokens": 16})
    unscored = verdict_of(own)
    assert isinstance(unscored, Unscored)
    assert unscored.reason == "unclosed_thought", "a limit that somebody has set is kept"


def test_log_probabilities_of_thoughts_are_not_those_of_the_label(
    server: ChaosServer, tmp_path: Path
) -> None:
    top = {"A": -0.01, "B": -6.0}
    server.answer = lambda body: Raw(
        body=json.dumps(completion("B", top, reasoning="A few thoughts")).encode()
    )
    verdict = verdict_of(judge_of(server, tmp_path))
    assert isinstance(verdict, LabelProbabilities)
    assert (verdict.preference, verdict.label_mass) == ("B", None)
    server.answer = lambda body: Raw(body=json.dumps(completion("B", {"Okay": -0.01})).encode())
    again = verdict_of(judge_of(server, tmp_path), comparison("other?", "x", "y"))
    assert isinstance(again, LabelProbabilities)
    assert again.preference == "B"
