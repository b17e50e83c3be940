"""A judge that says nothing of use is found out before it has judged everything."""

from pathlib import Path
from typing import Any

import pytest

from evals.judges import LlmJudge
from evals.judges.first_look import drawn_first
from schemas.errors import BackendError
from schemas.labels import LabelProbabilities, Unscored
from schemas.stage import Runtime
from tests.fixtures.comparisons import FakeJudge, comparison, judge_to_rows, leaning
from tests.fixtures.tiny_models import tiny_llama

MANY = [comparison(f"question {n}?", "x" * (n + 1), "y") for n in range(300)]


def test_the_draw_depends_on_the_comparisons_alone() -> None:
    drawn = drawn_first(MANY)
    assert len({c.comparison_id for c in drawn}) == 32
    assert drawn_first(MANY[::-1]) == drawn
    assert drawn != MANY[:32]
    assert drawn_first(MANY[:15]) == []
    assert len(drawn_first(MANY[:20])) == 20


def test_a_silent_judge_stops_after_its_first_verdicts_with_what_it_writes(tmp_path: Path) -> None:
    failed = Unscored("low_label_mass", "A, B and Tie have probability 0.2", raw="The first one")
    judge = FakeJudge(lambda a, b: failed)
    with pytest.raises(BackendError) as raised:
        judge_to_rows(judge, MANY, tmp_path)
    said = str(raised.value)
    assert "64 of the first 64 verdicts are unscored, most of them low_label_mass" in said
    assert "probability 0.2" in said
    assert "it writes 'The first one' instead" in said
    assert "prefill" in said
    assert "reasoned" in said
    assert len(judge.asked) == 64
    with pytest.raises(BackendError):
        judge_to_rows(judge, MANY, tmp_path)
    assert len(judge.asked) == 128, "asked again"


def test_a_judge_that_scores_goes_on_and_all_is_judged_once(tmp_path: Path) -> None:
    judge = FakeJudge(lambda a, b: leaning(0.5) if len(a) % 5 else Unscored("refused", "no"))
    rows = judge_to_rows(judge, MANY, tmp_path)
    assert len(rows) == 2 * len(MANY)
    assert len(judge.asked) == 2 * len(MANY)
    assert any(row["unscored_reason"] == "refused" for row in rows)


def test_what_a_model_would_write_is_shown(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model", context=2048)
    settings: dict[str, Any] = {"model": {"path": str(model)}, "min_label_mass": 1.0}
    judge = LlmJudge.model_validate(settings).open(None, Runtime(threads=1))
    with pytest.raises(BackendError, match=r"low_label_mass .*; it writes .* instead; take answer"):
        judge_to_rows(judge, MANY[:16], tmp_path)


def test_a_prefill_stands_before_the_label(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model", context=2048)
    settings: dict[str, Any] = {"model": {"path": str(model)}, "min_label_mass": 0.0}
    plain, prefilled = (
        LlmJudge.model_validate(settings | more).open(None, Runtime(threads=1))
        for more in ({}, {"prefill": "The better one is "})
    )
    text, other = (
        str(judge.tokenizer.decode(judge.labels.prompt_ids(MANY[0])))  # type: ignore[attr-defined]
        for judge in (plain, prefilled)
    )
    assert other == text + "The better one is "
    assert plain.fingerprint != prefilled.fingerprint
    (verdict,) = prefilled.judge([MANY[0]])
    assert isinstance(verdict, LabelProbabilities)
