"""`prefline win-rate`: JSON whose bits do not change, a page of text, errors of one line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from schemas.errors import ConfigError

KEYS = {
    "n", "win_rate", "standard_error", "ci_low", "ci_high", "discrete_win_rate", "n_wins",
    "n_losses", "n_ties", "n_unscored", "length_controlled", "length_matched", "position",
    "detectors", "verdict", "headline", "statement",
}  # fmt: skip


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    rows = [
        {
            "instruction": f"say {i}",
            "output_1": "x" * (40 + 3 * i % 17),
            "output_2": "y" * (50 - 5 * i % 23),
            "generator_2": model,
            "preference": 1 + (i * 37 % 100) / 100 * strength,
        }
        for model, strength in (("strong", 1.0), ("weak", 0.3))
        for i in range(60)
    ]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows))
    return path


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["win-rate", *arguments], catch_exceptions=False)


def test_json_has_every_key_and_the_same_bits_again(annotations: Path) -> None:
    first = invoke(str(annotations), "--model", "strong", "--json")
    assert first.exit_code == 0
    report = json.loads(first.stdout)
    assert set(report) >= KEYS
    assert {"win_rate", "standard_error", "ci_low", "ci_high", "overlap"} <= set(
        report["length_controlled"]
    )
    assert first.stdout == invoke(str(annotations), "--model", "strong", "--json").stdout


def test_the_headline_is_the_declared_one(annotations: Path) -> None:
    report = json.loads(
        invoke(
            str(annotations), "--model", "weak", "--headline", "length_controlled", "--json"
        ).stdout
    )
    assert report["headline"]["value"] == report["length_controlled"]["win_rate"]
    assert report["verdict"] == report["headline"]["verdict"] == "worse"
    assert report["statement"].startswith("Worse: length-controlled win rate")


def test_models_are_compared_prompt_by_prompt(annotations: Path) -> None:
    report = json.loads(
        invoke(str(annotations), "--model", "strong", "--against", "weak", "--json").stdout
    )
    found = report["differences"]["weak"]
    assert found["verdict"] == "better"
    assert found["difference"]["n"] == 60
    assert found["p_holm"] == found["p_value"] < 0.001


def test_text_says_it_in_words(annotations: Path) -> None:
    shown = invoke(str(annotations), "--model", "strong", "--against", "weak").stdout
    assert "length-controlled" in shown
    assert "Cannot tell: win rate" in shown
    assert "would take about" in shown
    assert "against weak:" in shown


def test_what_is_wrong_is_said(annotations: Path) -> None:
    with pytest.raises(ConfigError, match="--model: strong, weak"):
        invoke(str(annotations))


def test_a_broken_file_ends_in_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "annotations.json"
    broken.write_text("{")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "win-rate", str(broken)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"error: {broken}: not JSON")


def test_help_loads_no_numbers() -> None:
    code = (
        "import sys; import pipeline.cli; "
        "print([m for m in ('numpy', 'pyarrow', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
