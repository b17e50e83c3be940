"""Runs on the shelf: listed with what tells them apart, compared on the prompts they share."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from schemas.errors import ConfigError, MissingInputError
from schemas.manifest import Manifest


@pytest.fixture(scope="module")
def shelf(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    for name in ("a", "b"):
        shutil.copytree(finished, folder / name)
    manifest = folder / "b" / "train" / "manifest.json"
    changed = json.loads(manifest.read_text())
    changed["payload"]["config"]["loss"]["beta"] = 0.3
    manifest.write_text(Manifest.model_validate(changed).sealed_json())
    (folder / "notes").mkdir()
    return folder


def test_runs_are_listed_with_headline_and_what_differs(shelf: Path) -> None:
    listed = json.loads(CliRunner().invoke(app, ["runs", str(shelf), "--json"]).stdout)
    assert {Path(run["run"]).name for run in listed} == {"a", "b"}
    settings = {Path(run["run"]).name: run["settings"] for run in listed}
    assert settings == {"a": {"train.loss.beta": 0.1}, "b": {"train.loss.beta": 0.3}}
    assert all(0 <= run["headline"]["value"] <= 1 for run in listed)
    assert all(run["seconds"] > 0 for run in listed)
    for_people = CliRunner().invoke(app, ["runs", str(shelf)], env={"COLUMNS": "250"}).stdout
    assert "train.loss.beta = 0.3" in for_people


def test_two_runs_are_compared_prompt_by_prompt(shelf: Path, tmp_path: Path) -> None:
    arguments = ["report", str(shelf / "a"), str(shelf / "b")]
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert found["differing"] == ["train.loss.beta"]
    first, second = (run["difference"] for run in found["runs"])
    assert first is None
    assert (second["value"], second["n"]) == (0.0, 8)  # the same verdicts
    page = tmp_path / "ab.html"
    done = CliRunner().invoke(app, [*arguments, "--out", str(page)])
    assert done.exit_code == 0, done.output
    assert "train.loss.beta = 0.3" in page.read_text()


def test_what_is_no_run_is_said(shelf: Path) -> None:
    runner = CliRunner()
    alone = runner.invoke(app, ["report", str(shelf / "a")])
    assert alone.exit_code == 0, alone.output  # one run is no comparison: its own page
    both = runner.invoke(app, ["report", str(shelf / "a"), str(shelf / "notes")])
    assert isinstance(both.exception, MissingInputError)
    assert isinstance(runner.invoke(app, ["report"]).exception, ConfigError)
    assert isinstance(runner.invoke(app, ["runs", "no/such"]).exception, MissingInputError)
