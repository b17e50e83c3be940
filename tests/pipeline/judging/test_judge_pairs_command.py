"""judge-pairs: given answers into verdicts, preference pairs and a card."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from schemas.errors import DataError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def judge(path: Path, rows: list[Any], *options: str) -> dict[str, Any]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["judge-pairs", str(path), "--judge", "length", "--json", *options]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_labelled_pairs_give_a_card(folder: Path) -> None:
    labels = ["B", "model_b", "A", "2"]
    rows = [
        {"prompt": f"Q{i}?", "response_a": "short", "response_b": f"longer {i}", "winner": label}
        for i, label in enumerate(labels)
    ]
    found = judge(folder / "pairs.jsonl", rows)
    assert (found["comparisons"], found["verdicts"], found["unscored"]) == (4, 8, 0)
    assert found["card"]["accuracy"]["value"] == 0.75
    assert found["card"]["n"] == 4
    pairs = pq.read_table(found["files"]["preference_pairs"]).to_pylist()
    assert len(pairs) == 4
    assert all(pair["chosen"][0]["content"].startswith("longer") for pair in pairs)


def test_several_answers_of_a_row_are_all_compared(folder: Path) -> None:
    rows = [{"instruction": "Q?", "outputs": ["a", "bbb", "cc"]}]
    found = judge(folder / "many.jsonl", rows)
    assert (found["comparisons"], found["pairs"], found["card"]) == (3, 3, None)


def test_verdicts_without_a_pair_are_a_result_too(folder: Path) -> None:
    rows = [{"prompt": "Q?", "response_1": "one", "response_2": "two"}]
    found = judge(folder / "even.jsonl", rows)
    assert (found["verdicts"], found["pairs"]) == (2, 0)


def test_what_is_judged_is_not_asked_again(folder: Path) -> None:
    rows = [{"prompt": "Q?", "chosen": "long one", "rejected": "short"}]
    judge(folder / "again.jsonl", rows)
    first = (folder / "runs/judged-again/label/verdicts.parquet").stat().st_mtime_ns
    assert judge(folder / "again.jsonl", rows)["card"]["accuracy"]["value"] == 1
    assert (folder / "runs/judged-again/label/verdicts.parquet").stat().st_mtime_ns == first


def test_a_label_that_says_neither_side_is_refused(folder: Path) -> None:
    rows = [{"prompt": "Q?", "response_a": "x", "response_b": "y", "label": 0}]
    with pytest.raises(DataError, match=r"row 0: label is 0, which says neither side.*A, B or Tie"):
        judge(folder / "odd.jsonl", rows)


def test_rows_that_cannot_be_read_begin_no_run(folder: Path) -> None:
    rows = [
        {"prompt": "Q?", "response_a": "one", "response_b": "two"},
        {"prompt": "Q?", "good": "a"},
    ]
    with pytest.raises(DataError, match="row 1: no output under any of"):
        judge(folder / "odd.jsonl", rows)
    assert not (folder / "runs").exists()
