"""The llm judge against vLLM's own OpenAI-compatible server, on CPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evals.judges import LlmJudge
from evals.judges.interface import Judge
from schemas.errors import BackendError
from schemas.labels import LabelProbabilities, Unscored, Verdict
from schemas.stage import JudgeServerRuntime, Runtime
from tests.fixtures.comparisons import comparison
from tests.fixtures.tiny_models import tiny_llama
from tests.fixtures.vllm_server import vllm_server

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

KEY = "sk-served-0d1e2f"
SHOWN = [comparison(f"question {i}?", "word " * (i % 7), "other " * (i % 5)) for i in range(30)]
TOO_LONG = comparison("q", "x" * 3000, "y")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("served") / "llama", context=2048)


@pytest.fixture(scope="module")
def url(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """All tests of this module share a server."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    options = ("--served-model-name", "tiny", "--max-model-len", "2048")
    with vllm_server(model, log, KEY, *options) as url:
        yield url


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_KEY", KEY)


def served(url: str, cache: Path, **settings: Any) -> Any:
    of_server = settings.pop("server", {})
    where = {"base_url": url, "model": "tiny", "api_key_env": "TINY_KEY", **of_server}
    kind = LlmJudge.model_validate({"server": where, "min_label_mass": 0.0, **settings})
    runtime = JudgeServerRuntime(cache=str(cache), concurrency=16, give_up_after=3, attempts=2)
    return kind.open(None, Runtime(judge_server=runtime))


@pytest.fixture(scope="module")
def in_process(model: Path) -> Judge:
    config = {"model": {"path": str(model)}, "min_label_mass": 0.0}
    return LlmJudge.model_validate(config).open(None, Runtime(threads=1))


def scored(verdicts: list[Verdict]) -> list[LabelProbabilities]:
    assert all(isinstance(v, LabelProbabilities) for v in verdicts), verdicts
    return [v for v in verdicts if isinstance(v, LabelProbabilities)]


def test_label_tokens_of_the_server_are_those_of_this_process(
    url: str, in_process: Judge, tmp_path: Path
) -> None:
    judge = served(url, tmp_path, server={"logprobs": "token_ids"})
    for ours, theirs in zip(
        scored(in_process.judge(SHOWN)), scored(judge.judge(SHOWN)), strict=True
    ):
        for field in ("p_a", "p_b", "p_tie", "label_mass"):
            assert getattr(theirs, field) == pytest.approx(getattr(ours, field), abs=1e-3)
        assert theirs.prompt_tokens == ours.prompt_tokens
        assert theirs.completion_tokens == 1
    assert judge.usage["prompt_tokens"] == sum(v.prompt_tokens for v in judge.judge(SHOWN))


def test_what_was_answered_is_not_asked_again(url: str, tmp_path: Path) -> None:
    judge = served(url, tmp_path)
    first = judge.judge(SHOWN)
    assert judge.usage["answered"] == len(SHOWN)
    again = served(url, tmp_path)
    assert again.judge(SHOWN) == first
    assert (again.usage["answered"], again.usage["attempts"]) == (0, 0)


def test_a_comparison_beyond_the_context_is_unscored(url: str, tmp_path: Path) -> None:
    verdict, after = served(url, tmp_path).judge([TOO_LONG, SHOWN[0]])
    assert isinstance(verdict, Unscored)
    assert verdict.reason == "prompt_too_long"
    assert isinstance(after, LabelProbabilities)


def test_the_likeliest_tokens_never_say_more_than_all_tokens(
    url: str, in_process: Judge, tmp_path: Path
) -> None:
    judge = served(url, tmp_path, server={"logprobs": "top"}, min_label_mass=0.2)
    for ours, theirs in zip(scored(in_process.judge(SHOWN)), judge.judge(SHOWN), strict=True):
        if isinstance(theirs, Unscored):
            assert theirs.reason in ("no_label_mass", "low_label_mass", "reply_cut")
        else:
            assert theirs.label_mass is not None
            assert theirs.label_mass >= 0.2
            assert ours.label_mass is not None


def test_babble_is_no_verdict(url: str, tmp_path: Path) -> None:
    judge = served(url, tmp_path, answer="reasoned", server={"max_tokens": 8, "max_asks": 2})
    for verdict in judge.judge(SHOWN[:4]):
        assert isinstance(verdict, Unscored)
        assert (verdict.reason, verdict.completion_tokens) == ("reply_cut", 16)
        assert verdict.raw


def test_a_wrong_key_and_a_wrong_name_stop_in_one_line(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackendError, match=r"status 404: .*no-such-model"):
        served(url, tmp_path, server={"model": "no-such-model"}).judge(SHOWN)
    monkeypatch.setenv("TINY_KEY", "sk-wrong")
    with pytest.raises(BackendError, match="status 401") as raised:
        served(url, tmp_path / "other").judge(SHOWN)
    assert "sk-" not in str(raised.value)
