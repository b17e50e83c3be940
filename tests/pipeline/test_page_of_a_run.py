"""The page of a run as its stages made it: no table of it was written by a test."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.results.base import read_result
from schemas.results.benchmarks import BenchmarkResults
from schemas.results.win_rates import WinRates
from tests.fixtures.html_page import Page, numbers_in


@pytest.fixture(scope="module")
def page(finished: Path) -> Page:
    return Page((finished / "report" / "index.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def summary(finished: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((finished / "report" / "summary.json").read_bytes())
    return found


def test_the_page_is_sound_and_true_to_its_summary(page: Page, summary: dict[str, Any]) -> None:
    assert page.misnested == []
    assert len(page.numbers) > 100
    known = numbers_in(summary)
    assert [found for found in page.numbers if found[0] not in known] == []


def test_what_evaluate_wrote_is_what_the_page_says(
    finished: Path, page: Page, summary: dict[str, Any]
) -> None:
    shown = {value for value, _ in page.numbers}
    rates = read_result(finished / "evaluate" / "win_rates.json", WinRates).root
    assert set(rates) == {"judge", "truth"}
    for by, rate in rates.items():
        assert rate.headline is not None
        assert summary["win_rate"][by]["value"] == rate.headline.value
        assert rate.headline.value in shown
        assert rate.statement in summary["win_rate"][by]["statement"]
    tasks = read_result(finished / "evaluate" / "benchmarks.json", BenchmarkResults).tasks
    assert {task.model for task in tasks} == {"policy", "baseline"}
    for task in tasks:
        assert task.value in shown
