"""What the judge's errors could do to its rate, and what texts that speak to it do: on the page."""

import pytest

from evals.statistics.judge_errors import corrected_rate
from schemas.results.base import Estimate, write_result
from schemas.results.judge_card import Attack, Shift
from tests.fixtures.finished_runs import FakeRun, card
from tests.stages.report.test_evaluation_section import render, write_rates
from tests.stages.report.test_people import labels_of


def test_by_hand() -> None:
    """Right in 80 of 100: 62% by the judge is 70%; (0.62 + 0.8 - 1) / 0.6."""
    found = corrected_rate(0.62, 0.02, 0.8, 60, 40, 400)
    assert found is not None
    assert found.value == pytest.approx(0.7)
    variance = (0.02**2 + 0.16 * (0.3**2 / 40 + 0.7**2 / 60)) / 0.36
    assert found.standard_error == pytest.approx(variance**0.5)
    assert found.ci_low == pytest.approx(0.7 - 1.959964 * variance**0.5)
    assert found.n == 400


def test_a_perfect_judge_changes_nothing_and_a_coin_cannot_be_corrected() -> None:
    same = corrected_rate(0.62, 0.02, 1.0, 60, 40, 400)
    assert same is not None
    assert same.value == pytest.approx(0.62)
    assert same.standard_error == pytest.approx(0.02)
    assert corrected_rate(0.62, 0.02, 0.53, 60, 40, 400) is None
    assert corrected_rate(0.62, 0.02, 0.9, 0, 40, 400) is None
    beyond = corrected_rate(0.99, 0.001, 0.8, 60, 40, 400)
    assert beyond is not None
    assert (beyond.value, beyond.ci_high) == (1.0, 1.0)


def test_the_page_has_a_sentence_and_a_bar_where_nobody_has_labelled(run: FakeRun) -> None:
    """The card's judge sees 190.5 of 195 true wins and 195 of 198 true losses."""
    page, summary = render(run)
    errors = summary["win_rate"]["judge"]["judge_errors"]
    assert errors["right"] == pytest.approx(385.5 / 393)
    rate = summary["win_rate"]["judge"]["win_rate"]
    assert errors["value"] == pytest.approx(
        min(1, (rate + errors["right"] - 1) / (2 * errors["right"] - 1))
    )
    assert errors["statement"] in page.text
    assert "a diagnostic" in page.text
    assert any("corrected for the judge" in str(a.get("aria-label")) for _, a in page.tags)
    labels_of(run, run.root / "audit" / "labels.jsonl", 20)
    labelled, summary = render(run)
    assert summary["win_rate"]["judge"]["judge_errors"] is None
    assert "a diagnostic" not in labelled.text


def test_another_judge_s_card_says_nothing(run: FakeRun) -> None:
    write_result(run.inputs["judge"] / "card.json", card().model_copy(update={"judge": "other"}))
    _, summary = render(run)
    assert summary["win_rate"]["judge"]["judge_errors"] is None


def test_the_attack_table_is_on_the_page(run: FakeRun) -> None:
    assert "speak to the judge" not in render(run)[0].text

    def shift(value: float) -> Shift:
        found = Estimate(value=value, ci_low=value - 0.05, ci_high=value + 0.05, n=16)
        return Shift(ab=found, ba=found, both=found, unscored=1)

    attacks = [
        Attack(name="a plain sentence", group="control", neutralised=shift(0.01), raw=shift(0.02)),
        Attack(name="line", group="verdict", neutralised=shift(0.03), raw=shift(0.4444)),
    ]
    path = run.inputs["judge"] / "card.json"
    write_result(path, card().model_copy(update={"attacks": attacks}))
    page, _ = render(run)
    assert "What texts that speak to the judge do" in page.text
    assert "verdict: line+3.0+3.0+3.0−2.0 to +8.0+44.4+39.4 to +49.42" in page.text
    assert "A plain sentence alone moves it by +1.0." in page.text


def test_logs_of_benchmarks_are_linked(run: FakeRun) -> None:
    write_rates(run)
    page, _ = render(run)
    links = [a["href"] for tag, a in page.tags if tag == "a" and "logs/" in str(a.get("href"))]
    assert "../evaluate/logs/policy-food_preference.eval" in links
