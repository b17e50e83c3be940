"""An interval that holds whenever one stops: any number of looks errs no more than one."""

import math

import numpy as np
import pytest

from evals.statistics.intervals import wilson
from evals.statistics.sequences import RICH, SHARES, always_valid, log_fortune, settled
from evals.win_rate.report import JudgedComparisons, win_rate_report
from tests.evals.test_win_rate_report import judged

SCORES = {
    "hard": ([0.0, 1.0], [0.5, 0.5]),
    "ties": ([0.0, 0.5, 1.0], [0.2, 0.6, 0.2]),
    "soft": ([0.1, 0.4, 0.6, 0.9], [0.2, 0.3, 0.3, 0.2]),
}


@pytest.mark.parametrize("kind", SCORES)
def test_a_look_after_every_prompt_errs_once_in_twenty_at_most(kind: str) -> None:
    """300 evaluations of 805 prompts at one half, 805 looks each (a benchmark has more)."""
    values, chances = SCORES[kind]
    scores = np.random.default_rng(7).choice(values, size=(300, 805), p=chances)
    richest = np.maximum(log_fortune(scores, 0.5), log_fortune(1 - scores, 0.5)).max(axis=1)
    assert (richest > RICH).mean() <= 0.05
    fixed = np.array(
        [wilson(x, n)[0] > 0.5 for n in (100, 200, 400, 805) for x in _means(scores, n)]
    )
    assert kind != "hard" or fixed.reshape(4, -1).any(axis=0).mean() > 0.05, "what looking costs"


def _means(scores: "np.ndarray[tuple[int, int], np.dtype[np.float64]]", n: int) -> list[float]:
    return [float(x) for x in scores[:, :n].mean(axis=1)]


def test_of_two_scores_by_hand() -> None:
    """Two wins, betting on more than m: the mean over stakes c of (1 - c + c/m)²."""
    low, high = always_valid(np.array([1.0, 1.0]))
    assert high == 1
    fortune = sum((1 - c + c / low) ** 2 for c in SHARES) / len(SHARES)
    assert fortune == pytest.approx(40)


def test_the_order_of_scores_does_not_matter_and_sides_are_alike() -> None:
    scores = np.random.default_rng(1).random(60)
    low, high = always_valid(scores)
    assert always_valid(np.sort(scores)) == pytest.approx((low, high), abs=1e-9)
    assert always_valid(1 - scores) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    assert low < scores.mean() < high
    assert always_valid(np.array([])) == (0, 1)
    assert always_valid(np.zeros(5))[0] == 0


@pytest.mark.parametrize("n", [30, 300])
def test_settled_is_what_the_interval_says(n: int) -> None:
    for rate in (0.3, 0.45, 0.5, 0.6, 0.7, 1.0):
        scores = (np.arange(n) < rate * n).astype(float)
        low, high = always_valid(scores)
        assert settled(scores, scores) == (low > 0.5 or high < 0.5)
    assert not settled(np.array([]), np.array([]))
    lost, won = np.ones(n), np.ones(n)
    lost[: n // 2] = 0
    assert settled(won, won)
    assert not settled(lost, won)


def test_a_report_of_a_stopped_evaluation_has_that_interval_and_says_so() -> None:
    found = judged([1.0, 1.0, 0.0], 90)
    stopped = JudgedComparisons(found.verdicts, lengths=found.lengths, until_settled=True)
    report = win_rate_report(stopped)
    assert report.headline is not None
    assert report.headline.always_valid
    scores = np.array([1.0] * 60 + [0.0] * 30)
    interval = always_valid(scores)
    assert (report.headline.ci_low, report.headline.ci_high) == pytest.approx(interval)
    assert (report.ci_low, report.ci_high) == pytest.approx(interval)
    once = win_rate_report(found)
    assert once.headline is not None
    assert not once.headline.always_valid
    assert report.ci_high - report.ci_low > 1.2 * (once.ci_high - once.ci_low)
    assert "judged until it was settled" in report.statement
    assert report.minimum_detectable_effect is None
    assert [f.name for f in report.detectors][:1] == ["judged_until_settled"]
    assert math.isclose(report.win_rate or 0, 2 / 3)
