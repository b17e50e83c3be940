"""Win rates: hand arithmetic, symmetries, failures, coverage."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.statistics.intervals import wilson
from evals.statistics.means import mean, standard_error
from evals.statistics.power import detectable_effect
from evals.win_rate.win_rate import (
    position,
    prompt_scores,
    win_rate,
    win_rates_by_category,
)

Row = dict[str, Any]


def scored(prompt: str, order: str, p_a: float, p_b: float, comparison: str = "") -> Row:
    p_tie = max(0.0, 1.0 - p_a - p_b)
    side = "A" if p_a > p_b else "B"
    verdict = "Tie" if p_a == p_b or p_tie >= max(p_a, p_b) else side
    return {
        "prompt_id": prompt,
        "comparison_id": comparison or f"c-{prompt}",
        "judge": "j",
        "judge_fingerprint": "f",
        "order": order,
        "p_a": p_a,
        "p_b": p_b,
        "p_tie": p_tie,
        "verdict": verdict,
        "unscored_reason": None,
    }


def failed(prompt: str, order: str, reason: str = "low_label_mass") -> Row:
    row = scored(prompt, order, 0.0, 0.0)
    return {**row, "p_a": None, "p_b": None, "p_tie": None, "verdict": None} | {
        "unscored_reason": reason
    }


def exchanged(row: Row) -> Row:
    """The verdict that the same judgement is, had A and B been named the other way round."""
    names = {"A": "B", "B": "A", "Tie": "Tie", None: None}
    return {
        **row,
        "p_a": row["p_b"],
        "p_b": row["p_a"],
        "verdict": names[row["verdict"]],
        "order": "ba" if row["order"] == "ab" else "ab",
    }


@st.composite
def verdict_tables(draw: st.DrawFn) -> list[Row]:
    rows: list[Row] = []
    for number in range(draw(st.integers(1, 12))):
        for order in ("ab", "ba"):
            if draw(st.integers(0, 5)) == 0:
                rows.append(failed(f"p{number}", order))
                continue
            p_a = draw(st.integers(0, 64)) / 64
            p_b = draw(st.integers(0, 64 - int(p_a * 64))) / 64
            rows.append(scored(f"p{number}", order, p_a, p_b))
    return rows


def test_hand_arithmetic() -> None:
    rows = [
        scored("p1", "ab", 0.9, 0.1),
        scored("p1", "ba", 0.7, 0.3),  # p1: 0.8, both say A
        scored("p2", "ab", 0.6, 0.4),
        scored("p2", "ba", 0.2, 0.8),  # p2: 0.4, the orders contradict each other
        scored("p3", "ab", 0.0, 0.0),
        scored("p3", "ba", 0.1, 0.1),  # p3: 0.5, ties
        scored("p4", "ab", 0.2, 0.7),
        scored("p4", "ba", 0.1, 0.9),  # p4: (0.25 + 0.1) / 2 = 0.175
    ]
    result = win_rate(rows)
    scores = [0.8, 0.4, 0.5, 0.175]
    assert result.n == 4
    assert result.win_rate == pytest.approx(1.875 / 4)
    spread = sum((s - 0.46875) ** 2 for s in scores)
    assert result.standard_error == pytest.approx(math.sqrt(spread / 3 / 4))
    assert (result.n_wins, result.n_losses, result.n_ties) == (1, 1, 2)
    assert result.discrete_win_rate == 0.5
    assert result.n_unscored == 0
    assert result.worst_case.low == result.worst_case.high == result.win_rate
    assert result.position.consistency == 0.75
    assert result.position.gap == pytest.approx(
        (0.9 + 0.6 + 0.5 + 0.25 - 0.7 - 0.2 - 0.5 - 0.1) / 4
    )
    assert result.position.gap is not None
    assert result.position.p_first == pytest.approx(0.5 + result.position.gap / 2)
    assert result.verdict == "cannot tell"


def test_a_prompt_counts_once_however_often_it_was_sampled() -> None:
    rows = [scored("p1", "ab", 1.0, 0.0, comparison=f"c{i}") for i in range(9)]
    rows.append(scored("p2", "ab", 0.0, 1.0))
    result = win_rate(rows)
    assert (result.n, result.win_rate) == (2, 0.5)


@given(verdict_tables())
def test_exchanging_the_policies_mirrors_the_result(rows: list[Row]) -> None:
    one, other = win_rate(rows), win_rate([exchanged(r) for r in rows])
    assert (one.n, one.n_unscored, one.n_ties) == (other.n, other.n_unscored, other.n_ties)
    assert (one.n_wins, one.n_losses) == (other.n_losses, other.n_wins)
    assert one.worst_case.low == pytest.approx(1 - other.worst_case.high)
    if one.win_rate is not None and other.win_rate is not None:
        assert one.win_rate + other.win_rate == pytest.approx(1)
        assert one.ci_low == pytest.approx(1 - other.ci_high)
        assert one.ci_low <= one.win_rate <= one.ci_high
        # Who was shown first stays, whatever the two are called.
        assert one.position.p_first == pytest.approx(other.position.p_first)
        assert one.position.consistency == other.position.consistency


@given(verdict_tables(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_no_bit(rows: list[Row], random: Any) -> None:
    shuffled = random.sample(rows, len(rows))
    assert json.dumps(win_rate(rows).to_json()) == json.dumps(win_rate(shuffled).to_json())


@given(verdict_tables())
def test_json_holds_finite_numbers_only(rows: list[Row]) -> None:
    text = json.dumps(win_rate(rows).to_json(), allow_nan=False)
    assert {"low", "high", "ci_low", "ci_high"} == set(json.loads(text)["worst_case"])


def test_unscored_is_never_a_tie() -> None:
    rows = [scored(f"p{i}", o, 1.0, 0.0) for i in range(8) for o in ("ab", "ba")]
    with_failures = [*rows, failed("p8", "ab"), failed("p8", "ba"), failed("p9", "ab", "refused")]
    result = win_rate([*with_failures, scored("p9", "ba", 1.0, 0.0)])
    assert result.win_rate == 1.0
    # p9 was asked in both orders and has one: half a comparison says nothing.
    assert (result.n, result.n_ties, result.n_unscored, result.n_unscored_prompts) == (8, 0, 3, 2)
    assert result.unscored_reasons == {"low_label_mass": 2, "refused": 1}
    assert result.worst_case.low == pytest.approx(8 / 10)
    assert result.worst_case.high == 1.0


def test_nothing_scored_is_no_number() -> None:
    result = win_rate([failed("p1", "ab"), failed("p1", "ba")])
    assert result.win_rate is None
    assert result.discrete_win_rate is None
    assert (result.n, result.n_unscored, result.verdict) == (0, 2, "cannot tell")
    assert (result.ci_low, result.ci_high) == (0.0, 1.0)
    assert (result.worst_case.low, result.worst_case.high) == (0.0, 1.0)


@pytest.mark.parametrize(("p_a", "p_b", "verdict"), [(1, 0, "better"), (0, 1, "worse")])
def test_sets_without_spread_use_plain_wilson(p_a: float, p_b: float, verdict: str) -> None:
    result = win_rate([scored(f"p{i}", "ab", p_a, p_b) for i in range(20)])
    assert (result.ci_low, result.ci_high) == wilson(p_a, 20)
    assert result.verdict == verdict
    tied = win_rate([scored(f"p{i}", "ab", 0.0, 0.0) for i in range(20)])
    assert (tied.ci_low, tied.ci_high) == wilson(0.5, 20)
    assert tied.verdict == "cannot tell"
    assert tied.n_ties == 20


def test_one_prompt_has_no_standard_error() -> None:
    result = win_rate([scored("p", "ab", 0.9, 0.1)])
    assert result.standard_error is None
    assert (result.ci_low, result.ci_high) == wilson(0.9, 1)


def test_position_of_a_judge_that_always_takes_the_first() -> None:
    rows = [scored("p1", "ab", 1.0, 0.0), scored("p1", "ba", 0.0, 1.0)]
    effect = position(rows)
    assert (effect.consistency, effect.p_first, effect.gap) == (0.0, 1.0, 1.0)
    assert win_rate(rows).win_rate == 0.5
    assert win_rate(rows).n_ties == 1


def test_position_is_unknown_where_one_order_was_asked() -> None:
    effect = position([scored("p1", "ab", 0.8, 0.2)])
    assert (effect.consistency, effect.gap, effect.n_both_orders) == (None, None, 0)
    assert effect.p_first == 0.8


def test_minimum_detectable_effect_and_prompts_to_settle() -> None:
    error = 0.5 / math.sqrt(804)
    assert detectable_effect(0.5, error, 804) == pytest.approx(2.8016 * error, rel=2e-3)
    rows = [scored(f"p{i}", "ab", float(i % 100 < 53), float(i % 100 >= 53)) for i in range(500)]
    result = win_rate(rows)
    assert result.verdict == "cannot tell"
    assert result.prompts_to_settle == pytest.approx(2180, rel=0.01)  # +3 points, binary verdicts


def test_two_judges_are_refused() -> None:
    rows = [scored("p", "ab", 1, 0), {**scored("p", "ba", 1, 0), "judge": "other"}]
    with pytest.raises(ValueError, match="one judge"):
        win_rate(rows)
    with pytest.raises(ValueError, match="one judge"):
        win_rate([])


def test_categories_are_win_rates_of_their_own_prompts() -> None:
    rows = [scored("p1", "ab", 1, 0), scored("p2", "ab", 0, 1), scored("p3", "ab", 1, 0)]
    by_category = win_rates_by_category(rows, {"p1": "x", "p2": "y", "p3": None})
    assert {name: (r.n, r.win_rate) for name, r in by_category.items()} == {
        "x": (1, 1.0),
        "y": (1, 0.0),
    }


def test_the_interval_covers_the_truth() -> None:
    """Soft scores in two correlated orders, true rate 0.6: nominal 95%, 400 repeats."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(400):
        latent = rng.beta(1.2, 0.8, size=100)
        noise = rng.uniform(-1, 1, size=(2, 100)) * np.minimum(latent, 1 - latent)
        rows = [
            scored(
                f"p{i}", order, float(latent[i] + noise[o, i]), float(1 - latent[i] - noise[o, i])
            )
            for i in range(100)
            for o, order in enumerate(("ab", "ba"))
        ]
        result = win_rate(rows)
        covered += result.ci_low <= 0.6 <= result.ci_high
    assert 0.92 <= covered / 400 <= 0.98


def test_prompt_scores_match_numpy() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(size=50)
    rows = [scored(f"p{i:02d}", "ab", float(v), float(1 - v)) for i, v in enumerate(values)]
    scores = [*prompt_scores(rows).values()]
    assert scores == pytest.approx(values.tolist())
    assert mean(scores) == pytest.approx(values.mean())
    assert standard_error(scores) == pytest.approx(values.std(ddof=1) / math.sqrt(50))
