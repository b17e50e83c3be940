from pathlib import Path

import pytest

from pipeline.display.outcome import outcome_table
from schemas.files import write_json


def test_a_task_that_failed_is_in_the_outcome(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    error = "ConnectionError: Couldn't reach 'google/IFEval' on the Hub"
    tasks = [
        {"task": "inspect_evals/ifeval", "model": "policy", "error": error},
        {"task": "food_preference", "model": "policy", "error": None},
    ]
    outcome_table(tmp_path, {"benchmarks": {"tasks": tasks}})
    said = capsys.readouterr().out
    assert f"not measured: inspect_evals/ifeval, policy: {error}" in said
    assert "food_preference" not in said


def test_the_end_says_all_there_is_to_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    write_json(
        tmp_path / "evaluate" / "win_rates.json",
        {"judge": {"judge": "length", "statement": "Better: win rate 62.5%."}},
    )
    measured = {"scorer": "x", "metric": "accuracy", "ci_low": 0.1, "ci_high": 0.4, "n": 40}
    tasks = [
        {"task": "ifeval", "model": model, "value": value, **measured}
        for model, value in (("policy", 0.25), ("baseline", 0.2), ("other", 0.3))
    ]
    warnings = [{"stage": "train", "message": "train: low"}, {"stage": "train", "message": "low"}]
    write_json(tmp_path / "train" / "manifest.json", {})
    outcome_table(tmp_path, {"benchmarks": {"tasks": tasks}, "warnings": warnings})
    said = capsys.readouterr().out
    assert "by the judge, length: Better: win rate 62.5%." in said
    for line in ("policy    0.250", "baseline  0.200", "other     0.300"):
        assert f"ifeval x accuracy, {line}" in said
    assert said.count("train: low") == 1
    assert "1 warning:" in said
    assert "of one training run" in said
    assert f"Report: {tmp_path}/report/index.html" in said
