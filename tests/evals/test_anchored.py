"""The rate anchored in people: arithmetic by hand, coverage, labels as people give them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from evals.audit.labels import HumanLabel, read_labels
from evals.statistics.anchored import Anchored, anchored_rate
from evals.statistics.raters import krippendorff_alpha, mean_kappa
from evals.statistics.student import t975
from evals.win_rate.human import human_win_rate
from pipeline.cli import app
from schemas.errors import DataError
from schemas.parquet import write_table
from schemas.results.base import write_result
from schemas.results.win_rates import Declared
from schemas.tables import VERDICTS

Row = dict[str, Any]


def first(n: int, total: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.arange(total) < n


def test_hand_arithmetic() -> None:
    """Two wins of four labelled; the judge agrees with people, and says 3 of 4 of the rest."""
    judged = np.array([1.0, 1, 0, 0, 1, 1, 1, 0])
    labels = np.array([1.0, 1, 0, 0, 9, 9, 9, 9])
    done = anchored_rate(judged, labels, first(4, 8))
    # Cov = 1/3, Var f = 8 * (5/8) (3/8) / 7 = 15/56, n/N = 1: w = (1/3) / (30/56) = 28/45.
    w = 28 / 45
    assert done.weight == pytest.approx(w)
    assert done.anchored.value == pytest.approx(w * 0.75 + (0.5 - w * 0.5))
    variance = w**2 * (1 / 4) / 4 + ((1 - w) ** 2 / 3) / 4
    assert done.anchored.standard_error == pytest.approx(variance**0.5)
    assert done.people.value == 0.5
    assert done.anchored.n == done.people.n == 4


def test_a_judge_that_says_one_thing_is_not_heard() -> None:
    labels = np.array([1.0] * 7 + [0.0] * 3 + [9.0] * 40)
    done = anchored_rate(np.ones(50), labels, first(10, 50))
    assert done.weight == 0
    assert done.anchored.value == done.people.value == pytest.approx(0.7)


def test_where_all_is_labelled_people_decide() -> None:
    labels = np.array([1.0, 0, 1, 0.5])
    done = anchored_rate(np.array([0.0, 1, 0, 1]), labels, first(4, 4))
    assert done.anchored == done.people
    assert done.people.value == pytest.approx(0.625)


def test_equal_probabilities_are_no_probabilities() -> None:
    rng = np.random.default_rng(0)
    judged, labels = rng.random(60), rng.random(60)
    even = anchored_rate(judged, labels, first(20, 60))
    assert anchored_rate(judged, labels, first(20, 60), np.full(60, 1 / 3)) == even


def test_labels_to_settle_are_enough_at_the_distance_seen() -> None:
    rng = np.random.default_rng(1)
    truth = (rng.random(2000) < 0.6).astype(float)
    judged = np.where(rng.random(2000) < 0.8, truth, 1 - truth)
    done = anchored_rate(judged, truth, first(60, 2000))
    assert done.labels_to_settle is not None
    assert 20 < done.labels_to_settle < 1500


@pytest.mark.parametrize("right", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_interval_holds_the_people_s_rate(right: float, weighted: bool) -> None:
    """Whatever the judge is worth; the benchmark has the whole grid."""
    rng = np.random.default_rng(2)
    found = [_drawn(rng, right, 60, weighted) for _ in range(300)]
    inside = sum(
        (d.anchored.ci_low or 0) <= 0.65 <= (d.anchored.ci_high or 0) for d in found
    ) / len(found)
    assert 0.91 <= inside <= 0.985
    narrower = [
        ((d.anchored.ci_high or 0) - (d.anchored.ci_low or 0))
        / ((d.people.ci_high or 0) - (d.people.ci_low or 0))
        for d in found
    ]
    assert float(np.mean(narrower)) < (0.5 if right == 1 else 1.01)


def _drawn(rng: np.random.Generator, right: float, n: int, weighted: bool) -> Anchored:
    labels = rng.choice([1.0, 0.0, 0.5], size=400, p=[0.6, 0.3, 0.1])
    guess = rng.choice([1.0, 0.0, 0.5], size=400, p=[0.8, 0.1, 0.1])
    judged = np.where(rng.random(400) < right, labels, guess)
    probability = np.full(400, n / 400)
    if weighted:
        probability = np.where(judged == 1, 0.7, 1.8) * n / 400
    labelled = rng.random(400) < probability
    return anchored_rate(judged, labels, labelled, probability if weighted else None)


def test_students_quantiles() -> None:
    for degrees, value in ((1, 12.706), (4, 2.776), (9, 2.262), (49, 2.0096), (10**6, 1.96)):
        assert t975(degrees) == pytest.approx(value, abs=0.005)


def test_krippendorff_s_own_example() -> None:
    rows = ("*****34121133*3", "1*213343*******", "**21344*21133*4")
    units = [[row[i] for row in rows if row[i] != "*"] for i in range(15)]
    assert krippendorff_alpha(units) == pytest.approx(0.691, abs=5e-4)
    assert krippendorff_alpha([["A", "A"], ["A", "A"]]) is None


def test_kappa_is_the_mean_over_two_annotators() -> None:
    units = [{"x": "A", "y": "A"}, {"x": "B", "y": "B"}, {"x": "A", "y": "B"}, {"x": "B", "z": "B"}]
    # x and y: 2 of 3 agree, chance 2/3 * 1/3 + 1/3 * 2/3 = 4/9; x and z say B alone.
    assert mean_kappa(units) == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))
    assert mean_kappa([]) is None


def verdict(prompt: str, p_a: float | None, order: str = "ab") -> Row:
    return {
        "comparison_id": f"c-{prompt}",
        "prompt_id": prompt,
        "judge": "j",
        "judge_fingerprint": "f",
        "order": order,
        "p_a": p_a,
        "p_b": None if p_a is None else 1 - p_a,
        "p_tie": None if p_a is None else 0.0,
        "label_mass": None,
        "verdict": None if p_a is None else "A" if p_a > 0.5 else "B",
        "unscored_reason": "refused" if p_a is None else None,
        "unscored_detail": None,
        "raw": "",
        "prompt_tokens": None,
        "completion_tokens": None,
    }


def said(prompt: str, label: Any, who: str = "ann", **more: Any) -> HumanLabel:
    return HumanLabel(f"c-{prompt}", who, label, **more)


def test_several_people_count_by_their_mean_and_skips_do_not() -> None:
    rows = [verdict(f"p{i}", 0.9) for i in range(10)]
    labels = [said("p0", "A"), said("p0", "B", "bob"), said("p1", "A"), said("p2", "skip")]
    found = human_win_rate(rows, [*labels, said("elsewhere", "A")], Path("l"))
    assert found.people.rate == pytest.approx(0.75)
    assert (found.people.n, found.n_labels, found.n_skipped, found.n_unknown) == (2, 3, 1, 1)
    assert found.annotators == ["ann", "bob"]
    assert (found.agreement.n_pairs, found.agreement.agreement) == (1, 0)
    assert found.judge.rate == pytest.approx(0.9)


def test_a_prompt_that_the_judge_left_unscored_still_counts() -> None:
    rows = [verdict(f"p{i}", 0.9 if i else None) for i in range(10)]
    found = human_win_rate(rows, [said("p0", "B"), said("p1", "A")], Path("l"))
    assert found.n_prompts == 10
    assert found.people.rate == 0.5


def test_labels_that_cannot_be_used_are_refused() -> None:
    rows = [verdict(f"p{i}", 0.9) for i in range(4)]
    with pytest.raises(DataError, match="0 of these prompts are labelled"):
        human_win_rate(rows, [said("x", "A"), said("p0", "skip")], Path("l"))
    mixed = [said("p0", "A", probability=0.5), said("p1", "A")]
    with pytest.raises(DataError, match="for all or none"):
        human_win_rate(rows, mixed, Path("l"))
    with pytest.raises(DataError, match=r"not in \(0, 1\]"):
        human_win_rate(rows, [said(p, "A", probability=2.0) for p in ("p0", "p1")], Path("l"))


def test_the_command_shows_three_numbers(tmp_path: Path) -> None:
    path, labels = tmp_path / "verdicts.parquet", tmp_path / "labels.jsonl"
    rows = [verdict(f"p{i:02d}", 0.9 if i % 3 else 0.2, o) for i in range(60) for o in ("ab", "ba")]
    write_table(path, VERDICTS, rows)
    write_result(tmp_path / "declared.json", Declared(headline="discrete"))
    lines = [
        {"prompt_id": f"p{i:02d}", "annotator": "ann", "label": "A" if i % 3 else "tie"}
        | {"seconds": 1.0}
        for i in range(20)
    ]
    labels.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert len(read_labels(labels)) == 20
    done = CliRunner().invoke(app, ["win-rate", str(path), "--labels", str(labels), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    for who, n in (("judge", 60), ("people", 20), ("anchored", 20)):
        assert {"rate", "ci_low", "ci_high", "n"} <= found[who].keys()
        assert found[who]["n"] == n
        assert found[who]["ci_low"] <= found[who]["rate"] <= found[who]["ci_high"]
    assert found["people"]["rate"] == pytest.approx((13 + 7 / 2) / 20)
    assert found["headline"]["measure"] == "discrete"
    shown = CliRunner().invoke(
        app, ["win-rate", str(path), "--labels", str(labels), "--headline", "win_rate"]
    )
    assert "anchored in people" in shown.stdout
    assert "declared before any verdict: discrete win rate" in shown.stdout
    gone = CliRunner().invoke(app, ["win-rate", str(path), "--labels", str(tmp_path / "none")])
    assert gone.exit_code != 0
