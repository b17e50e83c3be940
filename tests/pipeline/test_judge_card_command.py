"""`prefline judge-card`: the length judge by name, settings or folder; saved verdicts."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evals.judges import LengthJudge, save_judge
from evals.judges.orders import judge_in_order
from pipeline.cli import app
from schemas.errors import ConfigError, MissingInputError
from schemas.labels import BOTH_ORDERS
from schemas.parquet import write_table
from schemas.stage import Runtime
from schemas.tables import COMPARISONS, VERDICTS
from tests.fixtures.comparisons import FakeJudge, comparison_row, labelled, leaning

UNITS = [labelled(f"q{i}", "longer text", "short", "A" if i % 4 else "B") for i in range(20)]


@pytest.fixture
def comparisons(tmp_path: Path) -> Path:
    rows = [comparison_row(unit, "test", index) for index, unit in enumerate(UNITS)]
    path = tmp_path / "comparisons.parquet"
    write_table(path, COMPARISONS, rows)
    return path


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["judge-card", *map(str, arguments)])


def card_of(*arguments: object) -> dict[str, Any]:
    result = invoke(*arguments, "--json")
    assert result.exception is None
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_judge_is_named_in_three_ways(comparisons: Path, tmp_path: Path) -> None:
    by_kind = card_of(comparisons, "--judge", "length")
    assert by_kind["accuracy"]["value"] == 0.75
    assert by_kind["n"] == 20
    (tmp_path / "judge").mkdir()
    save_judge(tmp_path / "judge", LengthJudge(), Runtime())
    for name in ('{"kind": "length"}', tmp_path / "judge", tmp_path / "judge" / "judge.json"):
        assert card_of(comparisons, "--judge", name) == by_kind
    assert card_of(comparisons, "--judge", "length", "--limit", 8)["n"] == 8


def test_lines_for_people(comparisons: Path) -> None:
    said = invoke(comparisons, "--judge", "length").stdout
    assert "length: 20 of 20 comparisons scored" in said
    assert "labelled B, judged: A 5, B 0, Tie 0" in said
    assert re.search(r"Lift over “the first one wins”, points +\+0\.0 ", said)
    assert re.search(r"Accuracy on held-out labels +0\.750 ", said)


def test_saved_verdicts_are_measured_without_asking(comparisons: Path, tmp_path: Path) -> None:
    judge = FakeJudge(lambda a, b: leaning(0.5), name="first")
    asked = [unit.comparison for unit in UNITS[:12]]
    rows = [row for order in BOTH_ORDERS for row in judge_in_order(judge, asked, order)]
    write_table(tmp_path / "verdicts.parquet", VERDICTS, rows)
    card = card_of(comparisons, "--verdicts", tmp_path / "verdicts.parquet")
    assert (card["judge"], card["n"], card["flip_rate"]["value"]) == ("first", 12, 1)
    assert card["position_gap"]["value"] == pytest.approx(0.5)


def test_what_cannot_be_is_one_line(comparisons: Path, tmp_path: Path) -> None:
    for arguments, error, words in (
        (["--judge", "nobody"], ConfigError, "nobody"),
        (["--judge", tmp_path / "gone" / "judge"], MissingInputError, "no judge.json"),
        ([], ConfigError, "--judge"),
    ):
        result = invoke(comparisons, *arguments)
        assert isinstance(result.exception, error)
        assert words in str(result.exception)
