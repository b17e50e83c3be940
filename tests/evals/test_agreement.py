import math
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.judge_card.agreement import (
    accuracy,
    cohen_kappa,
    confusion,
    difference,
    p_first,
    position_consistency,
    rate,
)
from evals.statistics.intervals import Z95, wilson
from evals.statistics.means import clustered_standard_error
from schemas.labels import Preference
from schemas.results.base import Estimate

A, B, TIE = Preference.A, Preference.B, Preference.TIE

labels = st.sampled_from(list(Preference))
label_pairs = st.lists(st.tuples(labels, labels), min_size=1, max_size=40)


def test_accuracy_by_hand() -> None:
    found = accuracy([A, B, TIE, A], [A, B, A, B])
    low, high = wilson(0.5, 4)
    assert found.to_json() == {
        "value": 0.5,
        "standard_error": pytest.approx(math.sqrt(4 * 0.25 / 3 / 4)),
        "ci_low": low,
        "ci_high": high,
        "n": 4,
    }


def test_nothing_to_estimate_is_no_value() -> None:
    for found in (accuracy([], []), difference([], []), p_first([], []), cohen_kappa([], [])):
        assert found == Estimate()


def test_clustered_standard_error_by_hand() -> None:
    # mean 1/2; clusters {1, 1} and {0, 0} deviate by +1 and -1: sqrt(2/1 * 2) / 4 = 1/2.
    assert clustered_standard_error([1, 1, 0, 0], "xxyy") == pytest.approx(0.5)
    # clusters that each hold both deviate by nothing.
    assert clustered_standard_error([1, 0, 1, 0], "xxyy") == 0
    # alone: sqrt(4/3 * 4 * 1/4) / 4, the textbook s / sqrt(n).
    assert clustered_standard_error([1, 0, 1, 0], range(4)) == pytest.approx(math.sqrt(4 / 3) / 4)
    assert math.isnan(clustered_standard_error([1, 0], "xx"))


def test_repeating_every_unit_of_a_prompt_does_not_narrow_the_interval() -> None:
    scores = [1.0] * 12 + [0.0] * 8
    once = rate(scores, range(20))
    thrice = rate([s for s in scores for _ in range(3)], [i for i in range(20) for _ in range(3)])
    assert thrice.n == 60
    assert (thrice.ci_low, thrice.ci_high) == pytest.approx((once.ci_low, once.ci_high))


def test_kappa_by_hand() -> None:
    # The textbook table 20, 5, 10, 15: p_o 0.7, p_e 0.5. Fleiss, Cohen and Everitt: variance terms
    # 0.10972 + 0.10188 - 0.01 = 0.2016, SE = sqrt(0.2016 / 50) / 0.5; here over 49, not 50.
    truth = [A] * 25 + [B] * 25
    predicted = [A] * 20 + [B] * 5 + [A] * 10 + [B] * 15
    found = cohen_kappa(truth, predicted)
    error = math.sqrt(0.2016 / 49) / 0.5
    assert found.value == pytest.approx(0.4)
    assert found.ci_low == pytest.approx(0.4 - 1.96 * error)
    assert found.ci_high == pytest.approx(0.4 + 1.96 * error)


def test_kappa_rests_on_clusters() -> None:
    truth, predicted = [A, A, B, B, TIE, A], [A, B, B, B, TIE, TIE]
    once = cohen_kappa(truth, predicted)
    twice = cohen_kappa(truth * 2, predicted * 2, [*range(6), *range(6)])
    assert twice.n == 12
    assert (twice.value, twice.ci_low) == pytest.approx((once.value, once.ci_low))


def test_kappa_over_three_labels_by_hand() -> None:
    # p_o = 4/6; margins truth (3, 2, 1)/6, predicted (2, 2, 2)/6: p_e = 12/36.
    found = cohen_kappa([A, A, A, B, B, TIE], [A, A, B, B, TIE, TIE])
    assert found.value == pytest.approx((4 / 6 - 1 / 3) / (2 / 3))


def test_perfect_agreement_keeps_an_interval() -> None:
    found = cohen_kappa([A, B] * 5, [A, B] * 5)
    assert found.value == 1
    assert found.ci_high == 1
    # Wilson's lower end for 10 of 10, through (p - 1/2) / (1/2).
    assert found.ci_low == pytest.approx((wilson(1, 10)[0] - 0.5) / 0.5)


def test_kappa_without_variety_is_no_number() -> None:
    assert cohen_kappa([A, A], [A, A]) == Estimate(n=2)


@given(label_pairs)
def test_agreement_does_not_care_what_the_sides_are_called(
    pairs: list[tuple[Preference, Preference]],
) -> None:
    truth, predicted = zip(*pairs, strict=True)
    swapped = [t.swap() for t in truth], [p.swap() for p in predicted]
    assert accuracy(*swapped) == accuracy(truth, predicted)
    first, second = cohen_kappa(truth, predicted), cohen_kappa(*swapped)
    assert first.n == second.n
    if first.value is not None:
        assert second.value == pytest.approx(first.value)
        assert first.value <= 1
        assert second.ci_low == pytest.approx(first.ci_low, abs=1e-7)
    assert sum(sum(row.values()) for row in confusion(truth, predicted).values()) == len(pairs)


def test_confusion_has_every_label() -> None:
    assert confusion([A, A, B], [A, TIE, A]) == {
        "A": {"A": 1, "B": 0, "Tie": 1},
        "B": {"A": 1, "B": 0, "Tie": 0},
        "Tie": {"A": 0, "B": 0, "Tie": 0},
    }


def test_difference_of_equal_ratings_is_nothing() -> None:
    scores = [1.0, 0.0, 1.0, 1.0, 0.0]
    found = difference(scores, scores)
    assert found.value == 0
    assert found.ci_low is not None
    assert found.ci_high is not None
    assert -0.43 < found.ci_low < 0 < found.ci_high < 0.43


def test_difference_by_hand() -> None:
    # Bonett and Price: 40 units right only here and 10 only there, one more of each, of 102.
    one = [1.0] * 80 + [0.0] * 20
    two = [1.0, 0.0] * 50
    here, there = 41 / 102, 11 / 102
    half = Z95 * math.sqrt((here + there - (here - there) ** 2) / 102)
    found = difference(one, two)
    assert found.value == pytest.approx(0.3)
    assert found.ci_low == pytest.approx(here - there - half, abs=1e-3)
    assert found.ci_high == pytest.approx(here - there + half, abs=1e-3)


def test_certain_difference_of_few_units_is_not_certain() -> None:
    found = difference([1.0] * 4, [0.0] * 4)
    assert found.value == 1
    assert found.ci_low is not None
    assert found.ci_low < 0.5


def test_position_by_hand() -> None:
    # Always the first place: A in order ab, B in order ba. A fair judge: the same side.
    assert p_first([A, A], [B, B]).value == 1
    assert position_consistency([A, A], [B, B]).value == 0
    assert p_first([A, B], [A, B]).value == 0.5
    assert position_consistency([A, B], [A, B]).value == 1
    # Ties name no side: of three that do, two are for the first place.
    mixed = p_first([A, TIE], [B, A])
    assert mixed.n == 3
    assert mixed.value == pytest.approx(2 / 3)


def test_position_of_a_real_judge(real_data: Path) -> None:
    """JudgeBench, o1-mini: 68.6% consistent; first 52.4%, second 41.3%, the rest ties."""
    import pyarrow.parquet as pq

    rows = pq.read_table(
        real_data / "judging" / "judgebench_judgments.parquet",
        columns=["judge", "response_model", "pair_id", "order", "decision"],
    ).to_pylist()
    shown = {"A>B": A, "B>A": B, "A=B": TIE}
    orders: dict[tuple[str, str], dict[int, Preference]] = defaultdict(dict)
    for row in rows:
        if row["judge"] == "o1-mini-2024-09-12":
            orders[row["response_model"], row["pair_id"]][row["order"]] = shown[row["decision"]]
    ab = [both[0] for both in orders.values()]
    ba = [both[1].swap() for both in orders.values()]
    assert len(ab) == 350
    assert position_consistency(ab, ba).value == pytest.approx(0.686, abs=5e-4)
    assert p_first(ab, ba).value == pytest.approx(0.524 / (0.524 + 0.413), abs=1e-3)
