from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.judges import Judge, LengthJudge, RuleJudge, open_judge, save_judge
from evals.judges.orders import judge_in_order, verdict_of
from evals.judges.resolution import Resolution, resolve
from schemas.labels import Comparison, LabelProbabilities, Order, Unscored, Verdict
from schemas.stage import Runtime
from schemas.tables import VERDICTS
from schemas.validation import rows_to_arrow
from stages.shards import judging
from tests.fixtures.comparisons import FakeJudge, comparison, judge_to_rows, leaning

QUESTION = "what does ravin like?"


def position_biased(text_a: str, text_b: str) -> Verdict:
    """Leans to the first place, more than to the longer text."""
    return leaning(min(1.0, max(-1.0, 0.3 + (len(text_a) - len(text_b)) / 10)))


JUDGES: list[Judge] = [
    RuleJudge(rule="food").open(None, Runtime()),
    LengthJudge().open(None, Runtime()),
    FakeJudge(position_biased),
]
texts = st.sampled_from(["pizza", "sushi", "tacos", "pizza pizza", "", "soup "])


@pytest.mark.parametrize("judge", JUDGES, ids=lambda j: str(j.name))
@given(st.lists(st.tuples(texts, texts), max_size=8))
def test_swapping_every_input_swaps_every_label(
    judge: Judge, pairs: Sequence[tuple[str, str]]
) -> None:
    given_order = [comparison(QUESTION, a, b) for a, b in pairs]
    found = [labels_of(judge, one) for one in given_order]
    swapped = [labels_of(judge, one.swap()) for one in given_order]
    for one, other in zip(found, swapped, strict=True):
        assert other.reason == one.reason
        assert other.margin == one.margin
        assert other.label == (one.label.swap() if one.label else None)


def labels_of(judge: Judge, one: Comparison) -> Resolution:
    ab, ba = (verdict_of(judge_in_order(judge, [one], order)[0]) for order in Order)
    return resolve(ab, ba, 0.1)


def test_probabilities_speak_of_the_comparisons_own_sides() -> None:
    judge = FakeJudge(lambda a, b: leaning(0.6 if a == "good" else -0.6))
    one = comparison("q", "good", "bad")
    for order in Order:
        row = judge_in_order(judge, [one], order)[0]
        assert (row["verdict"], row["order"]) == ("A", order.value)
        assert row["p_a"] == pytest.approx(0.8)
    assert judge.asked == [("good", "bad"), ("bad", "good")]


def test_failures_keep_reason_and_detail() -> None:
    judge = FakeJudge(lambda a, b: Unscored("prompt_too_long", "9 tokens"))
    row = judge_in_order(judge, [comparison("q", "x", "y")], Order.BA)[0]
    rows_to_arrow(VERDICTS, [row])
    assert row["verdict"] is None
    assert verdict_of(row) == Unscored("prompt_too_long", "9 tokens")


def test_length_counts_characters() -> None:
    judge = LengthJudge().open(None, Runtime())
    shown = [
        comparison("q", "ééé", "ab"),
        comparison("q", "a", "ab"),
        comparison("q", "ab", "é!"),
    ]
    found = judge.judge(shown)
    assert [v.preference for v in found if isinstance(v, LabelProbabilities)] == ["A", "B", "Tie"]


def test_the_food_rule_knows_the_truth() -> None:
    judge = RuleJudge(rule="food").open(None, Runtime())
    shown = [
        comparison(QUESTION, "pizza", "sushi"),
        comparison(QUESTION, "pizza pizza", "sushi"),
        comparison(QUESTION, "soup", "sushi"),
    ]
    found = judge.judge(shown)
    assert [v.preference for v in found if isinstance(v, LabelProbabilities)] == ["A", "B", "Tie"]


@pytest.mark.parametrize("kind", [RuleJudge(rule="food"), LengthJudge()])
def test_a_saved_judge_is_the_same_judge(kind: RuleJudge | LengthJudge, tmp_path: Path) -> None:
    saved = save_judge(tmp_path, kind, Runtime())
    opened = open_judge(tmp_path, Runtime())
    assert (opened.name, opened.fingerprint) == (saved.name, saved.fingerprint)


class Killed(Exception):
    pass


def test_judging_continues_where_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "SHARD_COMPARISONS", 3)
    shown = [comparison(f"q{i}", "x" * i, "y" * 5) for i in range(10)]
    whole = FakeJudge(position_biased)
    rows = judge_to_rows(whole, shown, tmp_path / "whole")
    assert len(rows) == 20

    def dying(text_a: str, text_b: str) -> Verdict:
        if len(broken.asked) > 14:
            raise Killed
        return position_biased(text_a, text_b)

    broken = FakeJudge(dying)
    with pytest.raises(Killed):
        judge_to_rows(broken, shown, tmp_path / "killed")
    rest = FakeJudge(position_biased)
    assert judge_to_rows(rest, shown, tmp_path / "killed") == rows
    assert len(rest.asked) == 8
