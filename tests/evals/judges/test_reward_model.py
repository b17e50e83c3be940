import json
import math
from pathlib import Path
from typing import Any

import pytest

from evals.judges import RewardModelJudge, open_judge, save_judge
from evals.judges.scoring.fitting import CUT_MARK
from evals.judges.scoring.rewards import verdict_of_rewards
from evals.judges.scoring.transformers_rewards import RewardScorer
from evals.memory.between_layers import is_trimmed
from schemas.errors import ConfigError, MissingInputError
from schemas.labels import LabelProbabilities, Unscored
from schemas.stage import Runtime
from tests.fixtures.comparisons import comparison, judge_to_rows
from tests.fixtures.tiny_models import tiny_llama, tiny_reward_model

SHOWN = [comparison(f"question {i}?", "word " * (i % 7), "other " * (i % 5)) for i in range(12)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_reward_model(tmp_path_factory.mktemp("reward") / "model")


def opened(model: Path, batch_size: int = 32, **settings: Any) -> RewardScorer:
    kind = RewardModelJudge.model_validate({"model": {"path": str(model)}, **settings})
    judge = kind.open(None, Runtime(threads=1, judge_batch_size=batch_size))
    assert isinstance(judge, RewardScorer)
    return judge


def rewards_of(verdict: Any) -> tuple[float, float]:
    raw = json.loads(verdict.raw)
    return raw["reward_a"], raw["reward_b"]


def test_holes_in_the_heap_are_given_back_between_layers(model: Path) -> None:
    assert is_trimmed(opened(model)._model)


def test_bradley_terry_by_hand() -> None:
    verdict = verdict_of_rewards((2.0, 7), (1.0, 5))
    assert isinstance(verdict, LabelProbabilities)
    assert verdict.p_a == pytest.approx(1 / (1 + math.exp(-1)))
    assert verdict.p_a + verdict.p_b == pytest.approx(1)
    assert (verdict.p_tie, verdict.prompt_tokens) == (0, 12)
    far = verdict_of_rewards((1e6, 1), (-1e6, 1))
    assert isinstance(far, LabelProbabilities)
    assert (far.p_a, far.p_b) == (1, 0)
    for reward in (math.nan, math.inf):
        assert verdict_of_rewards((reward, 1), (0.0, 1)) == Unscored(
            "no_reward", "a reward is not a number"
        )


def test_rewards_are_those_of_transformers_one_by_one(model: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    judge = opened(model)
    plain = AutoModelForSequenceClassification.from_pretrained(model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    for one, verdict in zip(SHOWN, judge.judge(SHOWN), strict=True):
        for side, reward in zip(
            (one.completion_a, one.completion_b), rewards_of(verdict), strict=True
        ):
            text = tokenizer.apply_chat_template([*one.prompt, *side], tokenize=False)
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
            with torch.no_grad():
                expected = plain(ids).logits.item()
            assert reward == pytest.approx(expected, abs=1e-4)


def test_a_verdict_depends_neither_on_its_batch_nor_on_the_order(model: Path) -> None:
    together, alone = opened(model).judge(SHOWN), opened(model, batch_size=1).judge(SHOWN)
    swapped = opened(model).judge([c.swap() for c in SHOWN])
    for one, two, other in zip(together, alone, swapped, strict=True):
        assert isinstance(one, LabelProbabilities)
        assert isinstance(two, LabelProbabilities)
        assert isinstance(other, LabelProbabilities)
        assert two.p_a == pytest.approx(one.p_a, abs=1e-5)
        assert other.p_b == pytest.approx(one.p_a, abs=1e-5)


def test_padding_is_not_mistaken_where_the_end_token_pads(model: Path, tmp_path: Path) -> None:
    """Many reward models pad with the token that their texts end with."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tmp_path / "pads-with-end"
    AutoModelForSequenceClassification.from_pretrained(model).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    together, alone = opened(folder).judge(SHOWN), opened(folder, batch_size=1).judge(SHOWN)
    for one, two in zip(together, alone, strict=True):
        assert rewards_of(one) == pytest.approx(rewards_of(two), abs=1e-4)


def test_each_text_is_read_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = opened(model)
    read: list[int] = []
    reading = judge._rewards

    def counted(rows: Any) -> list[float]:
        read.append(len(rows))
        return reading(rows)

    monkeypatch.setattr(judge, "_rewards", counted)
    one = comparison("q?", "first", "second")
    judge.judge([one, one.swap(), comparison("q?", "first", "third")])
    judge.judge([one])
    assert read == [3]


def test_too_long_is_cut_in_the_open(model: Path) -> None:
    long = comparison("q?", "x" * 600, "y")
    judge = opened(model)
    verdict, other = judge.judge([long, SHOWN[1]])
    assert isinstance(verdict, LabelProbabilities)
    assert verdict.prompt_tokens is not None
    assert verdict.prompt_tokens <= 2 * judge.max_tokens
    assert len(judge.conversation_ids(long.prompt, long.completion_a)) <= judge.max_tokens
    assert CUT_MARK in str(
        judge.renderer.tokenizer.decode(judge.conversation_ids(*long_side(long)))
    )
    assert isinstance(other, LabelProbabilities)
    assert judge.warnings
    hopeless = comparison("q" * 700, "x", "y")
    (unscored,) = opened(model).judge([hopeless])
    assert isinstance(unscored, Unscored)
    assert unscored.reason == "prompt_too_long", "the prompt alone is too long"


def long_side(one: Any) -> tuple[Any, Any]:
    return one.prompt, one.completion_a


def test_too_long_is_unscored_where_that_is_chosen(model: Path) -> None:
    leave: dict[str, Any] = {"overlong": "unscored"}
    long = comparison("q?", "x" * 600, "y")
    for judge in (opened(model, **leave), opened(model, max_prompt_tokens=100, **leave)):
        verdict, other = judge.judge([long, SHOWN[1]])
        assert isinstance(verdict, Unscored)
        assert verdict.reason == "prompt_too_long"
        assert isinstance(other, LabelProbabilities)


def test_what_is_no_reward_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no reward model: it has no trained score\.weight"):
        opened(tiny_llama(tmp_path / "causal"))
    with pytest.raises(ConfigError, match="has 3 labels"):
        opened(tiny_reward_model(tmp_path / "three", labels=3))
    with pytest.raises(MissingInputError, match="no such model folder"):
        opened(tmp_path / "nowhere")


def test_it_is_saved_opened_and_judges_into_a_table(model: Path, tmp_path: Path) -> None:
    made = save_judge(
        tmp_path, RewardModelJudge.model_validate({"model": {"path": str(model)}}), Runtime()
    )
    again = open_judge(tmp_path, Runtime(threads=1))
    assert (again.name, again.fingerprint) == ("reward_model", made.fingerprint)
    rows = judge_to_rows(again, SHOWN, tmp_path)
    by_order = {(r["comparison_id"], r["order"]): r["p_a"] for r in rows}
    for one in SHOWN:
        ab, ba = by_order[one.comparison_id, "ab"], by_order[one.comparison_id, "ba"]
        assert ab == pytest.approx(ba, abs=1e-12), "no position, no bias"
