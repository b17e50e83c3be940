from pathlib import Path

import pytest

from evals.judge_card.config import JudgeFloors
from evals.judge_card.floors import refuse_below_floors, shortfalls
from schemas.errors import ConfigError
from schemas.results.base import Estimate, write_result
from schemas.results.judge_card import JudgeCard, UnscoredRate


def card(accuracy: float | None, gap: float | None, unscored: int = 20) -> JudgeCard:
    def estimate(value: float | None) -> Estimate:
        return Estimate(value=value, ci_low=-0.2, ci_high=0.9, n=50)

    reasons = {"refused": 15, "no_verdict": unscored - 15}
    return JudgeCard(
        judge="j",
        kind="length",
        fingerprint="f",
        n=50,
        n_scored=50,
        n_prompts=50,
        accuracy=estimate(accuracy),
        position_gap=estimate(gap),
        unscored_rate=UnscoredRate(n=100, by_reason=reasons),
    )


@pytest.mark.parametrize(
    ("accuracy", "gap", "missed"),
    [
        (0.8, 0.05, 0),
        (0.7, -0.1, 0),
        (0.69, 0.05, 1),
        (0.8, -0.2, 1),
        (0.5, 0.3, 2),
        (None, None, 2),
    ],
)
def test_each_floor_that_is_missed_is_named(
    accuracy: float | None, gap: float | None, missed: int
) -> None:
    floors = JudgeFloors(min_agreement=0.7, max_position_gap=0.1)
    assert len(shortfalls(card(accuracy, gap), floors)) == missed


def test_many_unscored_verdicts_are_a_floor_by_default() -> None:
    assert shortfalls(card(0.9, 0.0, unscored=20), JudgeFloors()) == []
    (missed,) = shortfalls(card(0.9, 0.0, unscored=21), JudgeFloors())
    assert missed.startswith("21 of 100 verdicts on held-out comparisons are unscored (refused 15,")
    assert shortfalls(card(0.9, 0.0, unscored=100), JudgeFloors(max_unscored=None)) == []
    nothing = card(None, None).model_copy(update={"unscored_rate": UnscoredRate()})
    assert shortfalls(nothing, JudgeFloors()) == [], "no labels, no share"


def test_without_floors_nothing_is_missed() -> None:
    assert shortfalls(card(0.1, 1.0), JudgeFloors()) == []


def test_a_refusal_holds_the_numbers(tmp_path: Path) -> None:
    refuse_below_floors(tmp_path, "label")  # no card, no floors
    floors = JudgeFloors(min_agreement=0.7)
    found = card(0.512, 0.0)
    missed = {"below_floors": shortfalls(found, floors)}
    write_result(tmp_path / "card.json", found.model_copy(update=missed))
    with pytest.raises(
        ConfigError, match=r"label: .*agreement 0\.512 .*on 50 .*min_agreement 0\.7"
    ):
        refuse_below_floors(tmp_path, "label")
