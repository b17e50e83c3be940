"""What people say, on the page: three rates, from the recipe's labels or from an audit's."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.runs.fingerprint import payload_of
from schemas.errors import DataError
from schemas.parquet import read_rows
from schemas.tables import VERDICTS
from stages.report import STAGE
from stages.report.config import ReportConfig
from tests.fixtures.finished_runs import FakeRun
from tests.stages.report.test_evaluation_section import render


def labels_of(run: FakeRun, path: Path, n: int, **more: Any) -> Path:
    """People who say A of every fourth pair and B of the others."""
    rows = read_rows(run.inputs["evaluate"] / "verdicts.parquet", VERDICTS)
    known = sorted({row["comparison_id"] for row in rows})[:n]
    lines = [
        {"comparison_id": one, "annotator": who, "label": "A" if i % 4 == 0 else "B", "seconds": 2}
        | more
        for i, one in enumerate(known)
        for who in ("ann", "bob")
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_audit_of_a_run_is_on_its_page(run: FakeRun) -> None:
    before, summary = render(run)
    assert "What people say" not in before.text
    assert summary["win_rate"]["judge"]["human"] is None
    labels_of(run, run.root / "audit" / "labels.jsonl", 20)
    page, summary = render(run)
    human = summary["win_rate"]["judge"]["human"]
    assert human["people"]["rate"] == pytest.approx(0.25)
    assert (human["people"]["n"], human["anchored"]["n"], human["n_labels"]) == (20, 20, 40)
    assert human["anchored"]["ci_low"] < human["anchored"]["rate"] < human["anchored"]["ci_high"]
    assert "What people say" in page.text
    assert "people alone25.0%" in page.text
    assert human["statement"] in page.text
    assert "40 labels by 2 people on 20 of 40 prompts" in page.text
    assert "agreement 100.0%, kappa 1" in page.text


def test_labels_that_the_recipe_names_come_first_and_must_be_of_use(run: FakeRun) -> None:
    labels_of(run, run.root / "audit" / "labels.jsonl", 20)
    named = labels_of(run, run.root / "named" / "labels.jsonl", 8)
    _, summary = render(run, labels=str(named))
    assert summary["win_rate"]["judge"]["human"]["people"]["n"] == 8
    labels_of(run, named, 1)
    with pytest.raises(DataError, match="label at least two"):
        render(run, labels=str(named))


@pytest.mark.parametrize("damaged", [False, True])
def test_an_audit_that_has_just_begun_is_said_and_leaves_the_page_whole(
    run: FakeRun, damaged: bool
) -> None:
    path = labels_of(run, run.root / "audit" / "labels.jsonl", 1)
    if damaged:
        path.write_text('{"comparison_id"')
    page, summary = render(run)
    assert summary["win_rate"]["judge"]["human"] is None
    said = [w["message"] for w in summary["warnings"] if w["stage"] == "report"]
    assert len(said) == 1
    assert ("not a label" if damaged else "label at least two") in said[0]
    assert "What people say" not in page.text


def test_new_labels_make_a_report_stale(run: FakeRun) -> None:
    """They are part of its fingerprint, below the name they have in every run."""

    def files(**settings: Any) -> dict[str, str]:
        config = ReportConfig(**settings)
        found: dict[str, str] = payload_of(STAGE, config, {}, {}, run.root)["files"]
        return found

    assert files() == {}
    path = labels_of(run, run.root / "audit" / "labels.jsonl", 2)
    first = files()
    assert set(first) == {"audit/labels.jsonl"}
    labels_of(run, path, 3)
    assert set(files()) == set(first)
    assert files() != first
    assert set(files(labels=str(path))) == {str(path)}
