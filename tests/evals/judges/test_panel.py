import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from evals.judges import PanelJudge, open_judge, save_judge
from evals.judges.kinds.panel import Panel, decide
from schemas.errors import UnreachableError
from schemas.labels import Comparison, LabelProbabilities, Preference, Unscored, Verdict
from schemas.stage import Runtime
from tests.fixtures.comparisons import FakeJudge, comparison, leaning

A, B, TIE = leaning(0.8), leaning(-0.8), LabelProbabilities(0.1, 0.1, 0.8)
FAILED = Unscored("refused", "no")
FOOD = {"kind": "rule", "rule": "food"}
LENGTH = {"kind": "length"}
ONE = comparison("what does ravin like?", "pizza", "sushi and soup")

verdicts = st.one_of(
    st.builds(leaning, st.sampled_from([-0.6, -0.2, 0.0, 0.2, 0.6]), st.sampled_from([0.0, 0.3])),
    st.just(FAILED),
    st.just(TIE),
)


def panel(*answers: Verdict, **settings: object) -> Panel:
    members = [LENGTH] * len(answers)
    config = PanelJudge.model_validate({"members": members, **settings})
    judges = [
        FakeJudge(lambda a, b, v=v: v, name=f"j{i}")  # type: ignore[misc]
        for i, v in enumerate(answers)
    ]
    return Panel(config, judges)


def test_mean_of_probabilities_by_hand() -> None:
    (verdict,) = panel(leaning(0.8), leaning(-0.2), TIE).judge([ONE])
    assert isinstance(verdict, LabelProbabilities)
    assert verdict.p_a == pytest.approx((0.9 + 0.4 + 0.1) / 3)
    assert verdict.p_tie == pytest.approx(0.8 / 3)


def test_votes_are_shares() -> None:
    (verdict,) = panel(A, leaning(0.01), B, rule="vote").judge([ONE])
    assert isinstance(verdict, LabelProbabilities)
    assert (verdict.p_a, verdict.p_b, verdict.p_tie) == pytest.approx((2 / 3, 1 / 3, 0))


def test_each_members_verdict_is_kept() -> None:
    (verdict,) = panel(A, FAILED, A).judge([ONE])
    said = json.loads(verdict.raw)
    assert [s["judge"] for s in said] == ["j0", "j1", "j2"]
    assert said[0]["p_a"] == A.p_a
    assert said[1] == {"judge": "j1", "unscored": "refused", "detail": "no"}


@pytest.mark.parametrize(
    ("said", "rule", "reason"),
    [
        ((A, FAILED, FAILED), "mean", "panel_quorum"),
        ((A, FAILED, FAILED), "vote", "panel_quorum"),
        ((A, B), "vote", "panel_split"),
        ((A, B), "mean", "panel_split"),
        ((A, B, TIE), "vote", "panel_split"),
        ((FAILED, FAILED), "mean", "panel_quorum"),
    ],
)
def test_a_divided_or_failing_panel_is_no_tie(
    said: Sequence[Verdict], rule: str, reason: str
) -> None:
    (verdict,) = panel(*said, rule=rule).judge([ONE])
    assert isinstance(verdict, Unscored)
    assert verdict.reason == reason


def test_quorum_is_a_setting() -> None:
    (verdict,) = panel(A, FAILED, FAILED, min_scored=1).judge([ONE])
    assert isinstance(verdict, LabelProbabilities)
    (verdict,) = panel(A, A, FAILED, min_scored=3).judge([ONE])
    assert isinstance(verdict, Unscored)
    assert "2 of 3 members scored; refused 1" in verdict.detail


@given(st.lists(verdicts, min_size=2, max_size=5), st.sampled_from(["mean", "vote"]))
def test_swapping_what_all_say_swaps_what_they_say_together(said: list[Verdict], rule: str) -> None:
    swapped = [v if isinstance(v, Unscored) else v.swap() for v in said]
    quorum = len(said) // 2 + 1
    one, other = decide(said, rule, quorum), decide(swapped, rule, quorum)  # type: ignore[arg-type]
    if isinstance(one, Unscored):
        assert isinstance(other, Unscored)
        assert other.reason == one.reason
    else:
        assert isinstance(other, LabelProbabilities)
        assert other.swap() == one


@given(st.lists(verdicts, min_size=2, max_size=5), st.sampled_from(["mean", "vote"]))
def test_a_tie_is_somebodys_verdict(said: list[Verdict], rule: str) -> None:
    verdict = decide(said, rule, 1)  # type: ignore[arg-type]
    if isinstance(verdict, LabelProbabilities) and verdict.preference is Preference.TIE:
        assert any(
            isinstance(v, LabelProbabilities) and (v.p_tie > 0 or v.p_a == v.p_b) for v in said
        )


def test_it_is_opened_again_and_its_members_make_its_fingerprint(tmp_path: Path) -> None:
    kind = PanelJudge.model_validate({"members": [FOOD, LENGTH]})
    made = save_judge(tmp_path, kind, Runtime())
    again = open_judge(tmp_path, Runtime())
    assert (again.name, again.fingerprint) == ("panel", made.fingerprint)
    (verdict,) = again.judge([ONE])
    assert isinstance(verdict, Unscored), "pizza is better, and the other is longer"
    others = [[LENGTH, FOOD], [FOOD, LENGTH, LENGTH]]
    voted = PanelJudge.model_validate({"members": [FOOD, LENGTH], "rule": "vote"})
    kinds = [voted, *(PanelJudge.model_validate({"members": m}) for m in others)]
    prints = {k.open(None, Runtime()).fingerprint for k in kinds} | {made.fingerprint}
    assert len(prints) == 4


def test_impossible_panels_are_refused() -> None:
    with pytest.raises(ValidationError, match="at least 2 items"):
        PanelJudge.model_validate({"members": [FOOD]})
    with pytest.raises(ValidationError, match="3 of 2 members can never be"):
        PanelJudge.model_validate({"members": [FOOD, LENGTH], "min_scored": 3})
    with pytest.raises(ValidationError, match="panel"):
        PanelJudge.model_validate({"members": [FOOD, {"kind": "panel", "members": [FOOD, FOOD]}]})


class _Away(FakeJudge):
    times = 0

    def judge(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        type(self).times += 1
        raise UnreachableError("http://127.0.0.1:1: nobody is there")


def test_a_panel_goes_on_without_a_member_that_cannot_be_reached_and_says_so() -> None:
    config = PanelJudge.model_validate({"members": [LENGTH] * 3})
    away = _Away(lambda a, b: A, name="away")
    made = Panel(config, [away, FakeJudge(lambda a, b: A, "j1"), FakeJudge(lambda a, b: A, "j2")])
    for _ in range(2):
        (verdict,) = made.judge([ONE])
        assert isinstance(verdict, LabelProbabilities)
        assert json.loads(verdict.raw)[0]["unscored"] == "unreachable"
    assert _Away.times == 1, "once is enough"
    (warning,) = made.warnings
    assert "away (member 1) cannot be reached" in warning
    assert "2 of 3 members, of which 2 are enough" in warning
    few = Panel(PanelJudge.model_validate({"members": [LENGTH] * 2}), [away, away])
    with pytest.raises(UnreachableError, match="nobody is there"):
        few.judge([ONE])
