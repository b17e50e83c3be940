"""Bradley and Terry's model: by hand, against its likelihood, and where that has no optimum."""

import math
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pytest

from evals.statistics.bradley_terry import fit, strengths
from evals.win_rate.ratings import ELO_PER_LOGIT, ratings

Scores = dict[tuple[str, str], Mapping[str, float]]


def won(n: int, of: int, ties: int = 0) -> dict[str, float]:
    values = [1.0] * n + [0.5] * ties + [0.0] * (of - n - ties)
    return {f"p{i:03d}": value for i, value in enumerate(values)}


def test_of_one_pair_it_is_the_log_odds_and_a_tie_is_half() -> None:
    found = strengths({("a", "base"): won(7, 10, ties=1)}, "base", draws=50)
    assert found.of["a"].value == pytest.approx(math.log(7.5 / 2.5))
    assert not found.penalised
    assert found.of["a"].ci_low < found.of["a"].value < found.of["a"].ci_high


def test_three_in_a_ring_by_hand() -> None:
    """Everyone beats the next one 6 to 4: nobody is stronger."""
    ring: Scores = {("a", "b"): won(6, 10), ("b", "c"): won(6, 10), ("c", "a"): won(6, 10)}
    found = strengths(ring, "c", draws=20)
    assert [found.of[name].value for name in "ab"] == pytest.approx([0.0, 0.0], abs=1e-9)


def test_the_fit_is_where_the_likelihood_is_highest() -> None:
    """Against a search over the likelihood: wins seen are wins expected, and no step is better."""
    generator = np.random.default_rng(3)
    names = ["base", "a", "b", "c"]
    scores: Scores = {
        pair: {f"p{i}": float(x) for i, x in enumerate(generator.choice([0, 0.5, 1], 40))}
        for pair in combinations(names, 2)
    }
    found = {"base": 0.0} | {n: s.value for n, s in strengths(scores, "base", draws=5).of.items()}

    def likelihood(at: Mapping[str, float]) -> float:
        total = 0.0
        for (first, second), of in scores.items():
            chance = 1 / (1 + math.exp(at[second] - at[first]))
            for score in of.values():
                total += score * math.log(chance) + (1 - score) * math.log(1 - chance)
        return total

    best = likelihood(found)
    for name in ("a", "b", "c"):
        for step in (-1e-3, 1e-3):
            assert likelihood(found | {name: found[name] + step}) < best
        expected = sum(
            len(of) / (1 + math.exp(found[pair[pair[0] == name]] - found[name]))
            for pair, of in scores.items()
            if name in pair
        )
        seen = sum(
            sum(of.values()) if pair[0] == name else len(of) - sum(of.values())
            for pair, of in scores.items()
            if name in pair
        )
        assert seen == pytest.approx(expected, abs=1e-6)


def test_swapping_sides_and_other_orders_change_nothing() -> None:
    one: Scores = {("a", "base"): won(12, 20), ("b", "base"): won(5, 20), ("a", "b"): won(15, 20)}
    other: Scores = {
        (second, first): {p: 1 - s for p, s in of.items()} for (first, second), of in one.items()
    }
    for name in "ab":
        values = [strengths(scores, "base", draws=5).of[name].value for scores in (one, other)]
        assert values[0] == pytest.approx(values[1], abs=1e-9)


def test_one_who_wins_all_is_finite_said_and_has_a_wide_interval() -> None:
    found = strengths({("a", "base"): won(10, 10), ("b", "base"): won(5, 10)}, "base")
    assert found.penalised
    assert found.of["a"].value == pytest.approx(math.log(10.5 / 0.5))
    assert 1 / (1 + math.exp(-found.of["a"].ci_low)) < 0.85  # 10 of 10 do not prove more
    assert found.of["a"].ci_high > found.of["a"].value + 1
    assert math.isfinite(found.of["a"].ci_high)


def test_a_group_that_never_loses_to_the_rest_is_separated_too() -> None:
    """a and b beat each other, and both beat the baseline always: each pair alone looks harmless
    only where somebody of the rest has won.
    """
    scores: Scores = {
        ("a", "b"): won(5, 10), ("a", "base"): won(10, 10), ("b", "base"): won(10, 10)
    }  # fmt: skip
    assert strengths(scores, "base", draws=5).penalised
    scores["b", "base"] = won(9, 10)
    assert not strengths(scores, "base", draws=5).penalised


def test_who_was_compared_with_nobody_known_has_no_strength() -> None:
    found = strengths(
        {("a", "base"): won(5, 10), ("x", "y"): won(5, 10), ("z", "base"): {}}, "base"
    )
    assert list(found.of) == ["a"]
    assert list(found.unconnected) == ["x", "y", "z"]


def test_one_redraw_of_prompts_serves_all_pairs() -> None:
    """a and b give the same answers: whatever prompts are drawn, they stay together."""
    same = won(12, 20)
    both: Scores = {("a", "base"): same, ("b", "base"): same}
    apart = strengths(both, "base", draws=200)
    one, other = apart.of["a"], apart.of["b"]
    assert one.ci_low == pytest.approx(other.ci_low, abs=0.15)
    tied: Scores = {**both, ("a", "b"): dict.fromkeys(same, 0.5)}
    assert strengths(tied, "base", draws=20).of["a"].value == pytest.approx(one.value, abs=1e-9)


def test_intervals_hold_the_truth() -> None:
    generator = np.random.default_rng(11)
    truth = {"base": 0.0, "a": 0.6, "b": 2.0}
    inside = 0
    for repeat in range(60):
        scores: Scores = {
            (x, y): {
                str(i): float(generator.random() < 1 / (1 + math.exp(truth[y] - truth[x])))
                for i in range(60)
            }
            for x, y in combinations(truth, 2)
        }
        found = strengths(scores, "base", draws=150, seed=repeat)
        inside += sum(found.of[n].ci_low <= truth[n] <= found.of[n].ci_high for n in ("a", "b"))
    assert 106 <= inside <= 120  # 114 of 120 expected


def test_far_apart_tables_are_fitted_at_once() -> None:
    design = np.array([[1.0]])
    found = fit(design, np.array([[1e-9], [5.0], [10 - 1e-9]]), np.array([[10.0]] * 3))[:, 0]
    assert found[1] == pytest.approx(0.0)
    assert found[0] == pytest.approx(-found[2], rel=1e-4)
    assert found[0] == pytest.approx(math.log(1e-10), rel=1e-3)


def test_ratings_are_elo_at_the_baseline_and_need_three() -> None:
    assert ratings({("a", "baseline"): won(5, 10)}, "baseline") is None
    scores: Scores = {("a", "baseline"): won(10, 11), ("b", "baseline"): won(5, 10)}
    found = ratings(scores, "baseline")
    assert found is not None
    assert [(m.name, m.elo) for m in found.models] == [
        ("a", pytest.approx(1400)), ("b", pytest.approx(1000)), ("baseline", 1000)
    ]  # fmt: skip
    assert (found.n_pairs, found.n_prompts, found.penalised) == (2, 11, False)
    assert found.models[-1].ci_low is None
    assert ELO_PER_LOGIT * math.log(10) == pytest.approx(400)
