"""Missing verdicts: they move no rate, can withhold a conclusion, and are told."""

from typing import Any

import pytest

from evals.win_rate.report import JudgedComparisons, win_rate_report
from evals.win_rate.unscored import unscored_verdicts
from evals.win_rate.win_rate import win_rate

Row = dict[str, Any]


def verdict(prompt: str, order: str, p_a: float | None) -> Row:
    return {
        "comparison_id": prompt,
        "prompt_id": prompt,
        "judge": "j",
        "judge_fingerprint": "f",
        "order": order,
        "p_a": p_a,
        "p_b": None if p_a is None else 1 - p_a,
        "p_tie": None if p_a is None else 0.0,
        "verdict": None if p_a is None else "A" if p_a > 0.5 else "B",
        "unscored_reason": "refused" if p_a is None else None,
    }


def both(prompt: str, p_a: float | None) -> list[Row]:
    return [verdict(prompt, order, p_a) for order in ("ab", "ba")]


def outcomes(won: int, lost: int, missing: int) -> list[Row]:
    said = [1.0] * won + [0.0] * lost + [None] * missing
    return [row for i, p_a in enumerate(said) for row in both(f"p{i:03d}", p_a)]


def test_a_judge_that_follows_the_place_moves_nothing_by_failing_in_one_order() -> None:
    rows = []
    for i in range(200):
        rows.append(verdict(f"p{i:03d}", "ab", 1.0))
        rows.append(verdict(f"p{i:03d}", "ba", None if i % 10 < 3 else 0.0))
    found = win_rate(rows)
    assert (found.n, found.win_rate) == (140, 0.5)
    assert found.verdict == "cannot tell"


def test_most_verdicts_missing_is_no_proof() -> None:
    """30 won, 10 lost, 60 without a verdict: better among the scored, and nobody knows."""
    report = win_rate_report(JudgedComparisons(outcomes(30, 10, 60)))
    assert report.win_rate == 0.75
    assert report.verdict == "cannot tell"
    assert "60 of 100 prompts have no score: from 30.0% to 90.0%" in report.statement
    assert report.statement.startswith("Cannot tell: win rate 75.0%")
    assert "unscored_verdicts" in [finding.name for finding in report.detectors]


def test_losses_shed_by_writing_too_long_prove_nothing() -> None:
    assert win_rate_report(JudgedComparisons(outcomes(100, 20, 80))).verdict == "cannot tell"


@pytest.mark.parametrize("measure", ["win_rate", "discrete"])
def test_a_handful_among_many_silences_nothing(measure: Any) -> None:
    report = win_rate_report(JudgedComparisons(outcomes(260, 130, 6)), measure)
    assert report.verdict == "better"
    assert report.statement.startswith("Better: ")
    assert [finding.name for finding in report.detectors] == []


def test_failures_that_are_unlike_are_told_however_few() -> None:
    rows = outcomes(200, 200, 0)
    for row in rows[: 2 * 12 : 2]:
        row |= verdict(row["prompt_id"], "ab", None)
    found = unscored_verdicts(rows, {})
    assert found is not None
    assert "unlike by order: ab 12 of 400, ba 0 of 400" in found.detail
    sides = {f"p{i:03d}": (900, 10) if i < 12 else (10, 10 + i % 7) for i in range(400)}
    again = unscored_verdicts(rows, sides)
    assert again is not None
    assert set(again.numbers["unlike"]) == {"order", "longer side", "length"}


def test_few_and_even_failures_are_no_finding() -> None:
    assert unscored_verdicts(outcomes(200, 200, 4), {}) is None
    assert unscored_verdicts(outcomes(20, 20, 0), {}) is None
