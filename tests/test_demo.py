"""The embedded default, whole: what the README promises of the food world."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_food_world_ends_where_it_must(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline", "run", "--recipe", "food", "--json"]
    done = subprocess.run(
        [*command, "--run-dir", str(tmp_path / "food")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads(done.stdout)
    world = summary["world"]
    assert 0.05 <= world["preferred_rate"]["baseline"]["value"] <= 0.30
    assert world["preferred_rate"]["policy"]["value"] >= 0.95
    assert world["well_formed_rate"]["policy"]["value"] >= 0.99
    judge = summary["judge"]
    assert judge["accuracy"]["value"] >= 0.95
    assert abs(judge["position_gap"]["value"]) <= 0.1
    assert judge["below_floors"] == []
    ties = judge["confusion"]["Tie"]
    assert ties["Tie"] / sum(ties.values()) >= 0.9
    accuracies = {
        entry["model"]: entry["value"]
        for entry in summary["benchmarks"]["tasks"]
        if (entry["scorer"], entry["metric"]) == ("implicit_reward", "accuracy")
    }
    assert accuracies["baseline"] == 0.5  # it is the reference
    assert accuracies["policy"] >= 0.7
    # The judge's win rate and the true one are about the same answers.
    assert abs(summary["win_rate"]["judge"]["value"] - summary["win_rate"]["truth"]["value"]) < 0.05
