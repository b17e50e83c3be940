import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals.judge_card.card import build_card
from evals.judge_card.subsets import members_of
from evals.judges import Judge, LengthJudge
from evals.judges.orders import judge_in_order
from schemas.labels import LabeledComparison, Order, Preference, Unscored
from schemas.results.base import Estimate
from schemas.stage import Runtime
from tests.fixtures.comparisons import FakeJudge, labelled, leaning


def card_of(judge: Judge, units: list[LabeledComparison]) -> dict[str, Any]:
    shown = [u.comparison for u in units]
    rows = [row for order in Order for row in judge_in_order(judge, shown, order)]
    card = build_card(units, rows, judge=judge.name, kind="test", fingerprint=judge.fingerprint)
    found = card.to_json()
    json.dumps(found, allow_nan=False)
    return found


def value(card: dict[str, object], *path: str) -> object:
    found: object = card
    for name in path:
        assert isinstance(found, dict)
        found = found[name]
    return found


UNITS = [
    labelled("q1", "good", "bad", "A"),
    labelled("q2", "bad", "good but longer", "B"),
    labelled("q3", "good", "bad and longer", "A"),
    labelled("q4", "same", "same", "Tie"),
]


def test_a_judge_that_is_always_right() -> None:
    def right(a: str, b: str) -> object:
        return leaning(float(a.startswith("good")) - float(b.startswith("good")), tie=a == b)

    card = card_of(FakeJudge(right), UNITS)  # type: ignore[arg-type]
    assert value(card, "accuracy", "value") == 1
    assert value(card, "accuracy_non_ties", "n") == 3
    assert value(card, "kappa", "value") == 1
    assert value(card, "position_consistency", "value") == 1
    assert value(card, "p_first", "value") == 0.5
    # By hand: the longer completion is right in q1 (4 characters to 3), q2 and q4.
    assert value(card, "baselines", "longest", "value") == 0.75
    assert value(card, "baselines", "first", "value") == 0.5
    assert value(card, "lift_over_longest", "value") == 0.25
    assert value(card, "lift_over_first", "value") == 0.5
    assert value(card, "confusion", "B") == {"A": 0, "B": 1, "Tie": 0}
    assert value(card, "ece") == 0
    assert value(card, "brier") == 0


def test_a_judge_that_follows_the_position_is_found_out() -> None:
    card = card_of(FakeJudge(lambda a, b: leaning(1.0)), UNITS)
    assert value(card, "position_consistency", "value") == 0
    assert value(card, "p_first", "value") == 1
    # Each order contradicts the other, so every answer comes down to a tie.
    assert value(card, "accuracy", "value") == 0.25


def test_position_is_measured_by_flips_and_by_scores() -> None:
    card = card_of(FakeJudge(lambda a, b: leaning(0.6)), UNITS)
    # Whatever is shown first gets 0.8, so each comparison names A in one order and B in the other.
    assert value(card, "flip_rate", "value") == 1
    assert value(card, "position_gap", "value") == pytest.approx(0.6)
    assert value(card, "position_gap", "n") == 4
    fair = card_of(FakeJudge(lambda a, b: leaning(0.4 * ((a > b) - (a < b)))), UNITS)
    assert value(fair, "flip_rate", "value") == 0
    assert value(fair, "position_gap", "value") == pytest.approx(0)


def test_a_verdict_and_a_tie_lean_to_a_side() -> None:
    first_or_tie = FakeJudge(lambda a, b: leaning(1.0) if a == "good" else leaning(0.0, tie=1.0))
    card = card_of(first_or_tie, UNITS)
    # q1 and q3: A in one order, a tie in the other. q2: "good but longer" is never "good".
    assert value(card, "accuracy_non_ties", "value") == 0
    assert value(card, "accuracy_by_side", "value") == pytest.approx(2 / 3)


def test_people_are_the_ceiling() -> None:
    a, b, _ = Preference
    annotated = [
        replace(UNITS[0], annotations=(a, a, b)),
        replace(UNITS[1], annotations=(b, b, b)),
        replace(UNITS[2], annotations=(a,)),
    ]
    card = card_of(
        FakeJudge(lambda x, y: leaning(float(x == "good") - float(y == "good"))), annotated
    )
    # By hand. q1: each A against {A, B} is half a hit, B against {A, A} none: 1/3. q2: all agree.
    assert value(card, "human_ceiling", "annotator", "value") == pytest.approx((1 / 3 + 1) / 2)
    # The judge says A of q1: half, half and one; of q2, where neither text is "good", a tie: none.
    assert value(card, "human_ceiling", "judge", "value") == pytest.approx((2 / 3 + 0) / 2)
    assert value(card, "human_ceiling", "judge", "n") == 2
    assert value(card, "human_ceiling", "annotators_per_comparison") == 3
    alone = card_of(FakeJudge(lambda x, y: leaning(1.0)), UNITS)
    assert value(alone, "human_ceiling", "annotator", "value") is None


def test_unscored_verdicts_are_counted_by_order_and_left_out() -> None:
    judge = FakeJudge(
        lambda a, b: Unscored("prompt_too_long") if a == "bad" else leaning(float(a == "good"))
    )
    card = card_of(judge, UNITS)
    # Shown first, "bad" fails: q2 in order ab, q1 in order ba.
    assert value(card, "unscored_rate", "ab", "value") == 0.25
    assert value(card, "unscored_rate", "ba", "value") == 0.25
    assert value(card, "unscored_rate", "n") == 8
    assert value(card, "unscored_rate", "by_reason") == {"prompt_too_long": 2}
    assert value(card, "n") == 4
    assert value(card, "n_scored") == 2
    assert value(card, "accuracy", "n") == 2


def test_nothing_scored_has_no_numbers() -> None:
    card = card_of(FakeJudge(lambda a, b: Unscored("low_label_mass")), UNITS)
    nothing = Estimate().to_json()
    for name in ("accuracy", "kappa", "lift_over_longest", "lift_over_first", "p_first"):
        assert value(card, name) == nothing
    assert value(card, "unscored_rate", "ab", "value") == 1
    assert value(card, "brier") is None


def test_nothing_labelled_has_no_numbers() -> None:
    card = card_of(FakeJudge(lambda a, b: leaning(1.0)), [])
    assert value(card, "n") == 0
    assert value(card, "accuracy", "value") is None
    assert value(card, "unscored_rate", "ab", "value") is None


def test_length_judge_on_human_pairs(real_data: Path) -> None:
    """Auto-J's 1,392 human pairs: always-longest is right on 71.4% of the non-ties."""
    import pyarrow.parquet as pq

    rows = pq.read_table(real_data / "judging" / "autoj_human_pairs.parquet").to_pylist()
    names = {"1": "A", "2": "B", "tie": "Tie"}
    units = [
        labelled(r["prompt"], r["response_1"], r["response_2"], names[r["label"]]) for r in rows
    ]
    card = card_of(LengthJudge().open(None, Runtime()), units)
    assert value(card, "n") == 1392
    assert value(card, "accuracy_non_ties", "value") == pytest.approx(0.714, abs=5e-4)
    assert value(card, "accuracy", "value") == pytest.approx(738 / 1392)
    assert value(card, "baselines", "longest_non_ties") == value(card, "accuracy_non_ties")
    assert value(card, "lift_over_longest", "value") == 0
    assert value(card, "position_consistency", "value") == 1


def test_accuracy_by_source_category_and_annotator_by_hand() -> None:
    """The side that is ahead, ties left out; an annotator against that annotator's own labels."""
    units = [
        labelled("q1", "good", "bad", "A"),
        labelled("q2", "good", "bad", "B"),
        labelled("q3", "bad", "good", "B"),
        labelled("q4", "good", "bad", "Tie"),
    ]
    judge = FakeJudge(lambda a, b: leaning(float(a == "good") - float(b == "good")))
    shown = [u.comparison for u in units]
    rows = [row for order in Order for row in judge_in_order(judge, shown, order)]
    sources = ("hh", "hh", "arena", "arena")
    said = ([("kim", "A"), ("lee", "B")], [("kim", "A")], [("lee", "A")], [("kim", "B")])
    members = members_of(
        [
            {
                "comparison_id": unit.comparison.comparison_id,
                "source": source,
                "category": "chat",
                "annotations": [{"annotator": who, "label": label} for who, label in labels],
            }
            for unit, source, labels in zip(units, sources, said, strict=True)
        ]
    )
    card = build_card(units, rows, judge="j", kind="test", fingerprint="f", members=members)
    found = {(one.by, one.name): (one.accuracy.value, one.accuracy.n) for one in card.subsets}
    assert found == {
        ("source", "hh"): (0.5, 2),
        ("source", "arena"): (1.0, 1),
        ("annotator", "kim"): (2 / 3, 3),
        ("annotator", "lee"): (0.0, 2),
    }
    assert card.shown()["subsets.source.arena"][0] == "Accuracy, source arena"
    assert build_card(units, rows, judge="j", kind="t", fingerprint="f").subsets == []
