"""Many categories, and no worse than before: what a number of tests may conclude."""

from typing import Any

import numpy as np
import pytest

from evals.benchmarks.measures import Measured
from evals.benchmarks.run import BenchmarkRun
from evals.statistics.conclusions import no_worse
from evals.win_rate.categories import MIN_CATEGORY, category_rates
from evals.win_rate.differences import benjamini_hochberg
from stages.evaluate.benchmark_entries import paired_entries
from tests.evals.test_win_rate_report import verdict


def test_benjamini_hochberg_by_hand() -> None:
    """Times 4/1, 4/2, 4/3, 4/4, and no larger than what stands behind."""
    found = benjamini_hochberg({"a": 0.01, "b": 0.03, "c": 0.035, "d": 0.5})
    assert found == pytest.approx({"a": 0.04, "b": 0.14 / 3, "c": 0.14 / 3, "d": 0.5})
    assert list(found) == ["a", "b", "c", "d"]
    assert benjamini_hochberg({}) == {}


def test_of_twenty_categories_at_one_half_hardly_any_stands_out() -> None:
    """Each interval alone would let one in twenty stand out."""
    rng = np.random.default_rng(3)
    alone = together = 0
    for _ in range(30):
        rows: list[dict[str, Any]] = []
        categories: dict[str, str | None] = {}
        for number in range(20):
            for index, won in enumerate(rng.random(60) < 0.5):
                rows.append(verdict(f"{number}-{index}", float(won)))
                categories[f"{number}-{index}"] = f"c{number:02d}"
        found = category_rates(rows, categories)
        alone += sum(rate.ci_low > 0.5 or rate.ci_high < 0.5 for rate in found.values())
        together += any(rate.verdict != "cannot tell" for rate in found.values())
    assert alone / 600 > 0.03
    assert together / 30 <= 0.15


def test_a_category_that_stands_out_and_one_too_small_to() -> None:
    rows = [verdict(f"w{i}", float(i % 10 > 0)) for i in range(100)]
    rows += [verdict(f"s{i}", 1.0) for i in range(MIN_CATEGORY - 1)]
    rows += [verdict(f"e{i}", float(i % 2)) for i in range(100)]
    names = {"w": "wins", "s": "small", "e": "even"}
    found = category_rates(rows, {row["prompt_id"]: names[row["prompt_id"][0]] for row in rows})
    assert {name: rate.verdict for name, rate in found.items()} == {
        "wins": "better",
        "small": "cannot tell",
        "even": "cannot tell",
    }
    assert found["small"].p_bh is None
    assert found["even"].p_value == pytest.approx(1.0)
    # z = 0.4 / sqrt(0.25 D / 100), D = 100/99: 7.96
    assert 1e-15 < (found["wins"].p_value or 0) < 1e-14


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.01, 0.05, "better"),
        (-0.01, 0.03, "no worse"),
        (-0.015, -0.005, "no worse"),
        (-0.03, 0.01, "cannot tell"),
        (-0.09, -0.03, "worse"),
        (None, None, "cannot tell"),
    ],
)
def test_no_worse_by_more_than_two_points(low: float | None, high: float | None, says: str) -> None:
    assert no_worse(low, high, 0.02) == says


def run_of(scores: dict[str, float]) -> BenchmarkRun:
    return BenchmarkRun(
        measured=[
            Measured(scorer="s", metric="mean", value=0.5, n=400, n_unscored=0, scores=scores)
        ]
    )


def test_a_benchmark_says_whether_a_model_is_no_worse() -> None:
    """400 samples of which four change either way: no worse by 5 points, not by 1."""
    before = {f"s{i}": float(i % 2) for i in range(400)}
    after = {**before, **{f"s{i}": 1.0 - i % 2 for i in range(8)}}
    for margin, says in ((0.05, "no worse"), (0.01, "cannot tell"), (None, None)):
        [entry] = paired_entries("t", "policy", run_of(after), run_of(before), margin)
        assert (entry.margin, entry.conclusion) == (margin, says)
        assert entry.difference == 0
