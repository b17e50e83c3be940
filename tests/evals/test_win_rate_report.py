"""The report on one judge's verdicts: its headline, its words, and what it does without data."""

import json
from typing import Any

import numpy as np
import pytest

from evals.win_rate.report import JudgedComparisons, length_sample, win_rate_report
from schemas.results.measures import Measure

Row = dict[str, Any]


def verdict(prompt: str, p_a: float | None, comparison: str = "") -> Row:
    return {
        "comparison_id": comparison or prompt,
        "prompt_id": prompt,
        "judge": "j",
        "judge_fingerprint": "f",
        "order": "ab",
        "p_a": p_a,
        "p_b": None if p_a is None else 1 - p_a,
        "p_tie": None if p_a is None else 0.0,
        "verdict": None if p_a is None else "A" if p_a > 0.5 else "B",
        "unscored_reason": "refused" if p_a is None else None,
    }


def judged(rates: list[float], n: int = 300) -> JudgedComparisons:
    rng = np.random.default_rng(0)
    rows = [verdict(f"p{i:03d}", rates[i % len(rates)]) for i in range(n)]
    drawn = rng.integers(50, 500, size=(n, 2)).tolist()
    lengths = {row["comparison_id"]: (a, b) for row, (a, b) in zip(rows, drawn, strict=True)}
    return JudgedComparisons(rows, lengths=lengths)


@pytest.mark.parametrize("measure", ["win_rate", "length_controlled", "discrete"])
def test_the_declared_measure_gives_verdict_and_numbers(measure: Measure) -> None:
    report = win_rate_report(judged([0.9, 0.8, 0.2]), measure).to_json()
    rates = {
        "win_rate": report["win_rate"],
        "length_controlled": report["length_controlled"]["win_rate"],
        "discrete": report["discrete_win_rate"],
    }
    assert report["headline"]["value"] == rates[measure]
    assert report["verdict"] == "better"
    assert report["statement"].startswith("Better: ")


def test_measures_may_disagree_and_the_declared_one_decides() -> None:
    """Wins by a hair, losses by far: worse by the soft scores, better by the count."""
    j = judged([0.55, 0.55, 0.01])
    assert win_rate_report(j, "win_rate").to_json()["verdict"] == "worse"
    assert win_rate_report(j, "discrete").to_json()["verdict"] == "better"


def test_cannot_tell_says_what_it_would_take() -> None:
    report = win_rate_report(judged([1.0] * 51 + [0.0] * 49, n=200)).to_json()
    assert report["verdict"] == "cannot tell"
    assert report["prompts_to_settle"] == pytest.approx((2.8016 * 0.5 / 0.01) ** 2, rel=0.02)
    assert "200 prompts show a distance from 50% of 9.9 points or more" in report["statement"]
    assert f"about {report['prompts_to_settle']:,}" in report["statement"]


@pytest.mark.parametrize("measure", ["win_rate", "length_controlled", "discrete"])
def test_nothing_scored_is_no_verdict(measure: Measure) -> None:
    report = win_rate_report(JudgedComparisons([verdict("p", None)]), measure).to_json()
    assert (report["verdict"], report["headline"]["value"]) == ("cannot tell", None)
    assert report["statement"].startswith("Cannot tell: there is no ")
    json.dumps(report, allow_nan=False)


def test_lengths_are_means_over_a_prompt_s_comparisons() -> None:
    rows = [verdict("p", 0.9, "c1"), verdict("p", 0.5, "c2"), verdict("q", 0.2)]
    lengths = {"c1": (10, 20), "c2": (30, 20), "q": (5, 6)}
    sample = length_sample(JudgedComparisons(rows, lengths=lengths))
    assert sample is not None
    assert sample.scores.tolist() == pytest.approx([0.7, 0.2])
    assert sample.policy_lengths.tolist() == [20, 5]
    assert sample.baseline_lengths.tolist() == [20, 6]
    assert length_sample(JudgedComparisons(rows, lengths={"q": (5, 6)})) is None
