from pathlib import Path

import pytest

from pipeline.display.outcome import outcome_table


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
