"""A judge in this process that writes before it states a verdict."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from evals.judges import LlmJudge
from evals.judges.scoring.fitting import CUT_MARK, CUT_NOTE
from evals.models.samplers import Sample, SampledCompletion, SampleRequest, SamplingSettings
from schemas.labels import LabelProbabilities, Unscored
from schemas.stage import Runtime
from tests.fixtures.comparisons import comparison
from tests.fixtures.tiny_models import tiny_llama

ONE = comparison("why?", "because", "so")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("reasoned"), context=4096)


class Scripted:
    """A sampler that says what it is told, in the model's own tokens."""

    name = "scripted"
    fingerprint = "0" * 32

    def __init__(self, judge: Any, says: Callable[[SampleRequest], str], cut: bool = False) -> None:
        self._tokenizer = judge._renderer.tokenizer
        self._says = says
        self._cut = cut
        self.requests: list[SampleRequest] = []
        self.settings: SamplingSettings | None = None

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> list[Sample]:
        self.requests += requests
        self.settings = settings
        return [self._one(self._says(request)) for request in requests]

    def _one(self, text: str) -> Sample:
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        return SampledCompletion(text, ids, -1.0, "length" if self._cut else "stop")

    def close(self) -> None:
        """Nothing is held."""


def judge_of(model: Path, **settings: Any) -> Any:
    made = {"model": {"path": str(model)}, "answer": "reasoned", **settings}
    return LlmJudge.model_validate(made).open(None, Runtime(threads=1))


def scripted(judge: Any, says: Callable[[SampleRequest], str], cut: bool = False) -> Scripted:
    judge._sampler = Scripted(judge, says, cut)
    sampler: Scripted = judge._sampler
    return sampler


def test_the_verdict_is_read_after_thinking_alone(model: Path) -> None:
    judge = judge_of(model)
    sampler = scripted(judge, lambda r: "<think>\nVerdict: B?\n</think>\nBoth fit.\nVerdict: A")
    (verdict,) = judge.judge([ONE])
    assert isinstance(verdict, LabelProbabilities)
    assert verdict.preference == "A"
    assert verdict.raw.startswith("<think>")
    assert sampler.settings is not None
    assert (sampler.settings.temperature, sampler.settings.max_tokens) == (0, 1024)
    assert sampler.requests[0].prompt[0]["content"].endswith("Verdict: Tie")


def test_who_states_none_is_asked_again_and_then_unscored(model: Path) -> None:
    judge = judge_of(model)
    sampler = scripted(judge, lambda r: "Verdict: B" if len(r.prompt) > 1 else "Both are good.")
    verdict, other = judge.judge([ONE, ONE.swap()])
    assert isinstance(verdict, LabelProbabilities)
    assert verdict.preference == "B"
    assert isinstance(other, LabelProbabilities)
    assert [len(request.prompt) for request in sampler.requests] == [1, 1, 3, 3]
    scripted(judge, lambda r: "Both are good.")
    (unscored,) = judge.judge([ONE])
    assert isinstance(unscored, Unscored)
    assert (unscored.reason, unscored.raw) == ("no_verdict", "Both are good.")


def test_a_reply_cut_in_its_thoughts_is_unscored(model: Path) -> None:
    judge = judge_of(model)
    scripted(judge, lambda r: "<think>Verdict: B", cut=True)
    (unscored,) = judge.judge([ONE])
    assert isinstance(unscored, Unscored)
    assert unscored.reason == "unclosed_thought"


def test_a_thought_that_the_prompt_opens_is_one(model: Path, tmp_path: Path) -> None:
    judge = judge_of(model)
    tokenizer = judge._renderer.tokenizer
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "<|im_start|>assistant\n' }}{% endif %}", "<|im_start|>assistant\n<think>\n' }}{% endif %}"
    )
    if "<think>" not in str(tokenizer.chat_template):
        pytest.skip("the tiny model's template has no such header")
    scripted(judge, lambda r: "I would say Verdict: B\nVerdict: B")
    (unscored,) = judge.judge([ONE])
    assert isinstance(unscored, Unscored)
    scripted(judge, lambda r: "B?</think>Verdict: A")
    (verdict,) = judge.judge([ONE])
    assert isinstance(verdict, LabelProbabilities)
    assert verdict.preference == "A"


def test_over_long_completions_are_cut_or_left_out(model: Path) -> None:
    long = comparison("why?", "word " * 2000, "so")
    judge = judge_of(model)
    sampler = scripted(judge, lambda r: "Verdict: A")
    (verdict,) = judge.judge([long])
    assert isinstance(verdict, LabelProbabilities)
    assert verdict.raw.endswith(CUT_NOTE)
    assert CUT_MARK in sampler.requests[0].prompt[0]["content"]
    assert judge.warnings


def test_a_real_model_writes_and_is_unscored(model: Path) -> None:
    judge = judge_of(model, max_reply_tokens=8)
    (verdict,) = judge.judge([ONE])
    assert isinstance(verdict, Unscored)
    assert verdict.reason in ("no_verdict", "reply_cut")
    assert verdict.completion_tokens is not None
    judge.close()
    judge.close()


def test_a_grammar_of_ones_own_reads_the_reply(model: Path) -> None:
    judge = judge_of(model, verdict_pattern=r"^RATING=(\w+)$")
    scripted(judge, lambda r: "Verdict: A\nRATING=B")
    (verdict,) = judge.judge([ONE])
    assert isinstance(verdict, LabelProbabilities)
    assert verdict.preference == "B"
