"""A whole sweep: two settings, two seeds each, on tables that are made once."""

import json
from pathlib import Path

from typer.testing import CliRunner

from pipeline.cli import app
from schemas.manifest import read_manifest
from tests.fixtures.command_line import TINY

SETTINGS = (
    "train.loss.beta=0.05,0.5",
    "train.seeds=[1,2]",
    "evaluate.tasks=[]",
    "train.training.max_steps=2",
    "train.training.eval_every=2",
    "train.generations.prompts=0",
)


def command(name: str, run_dir: Path, *more: str) -> str:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    arguments = [name, "--recipe", str(TINY), "--run-dir", str(run_dir), *settings, *more]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_choice_is_made_on_dev_and_reported_on_test(run_dir: Path) -> None:
    sampled = read_manifest(run_dir / "sample")
    said = command("run", run_dir)
    found = json.loads((run_dir / "sweep" / "sweep.json").read_text())
    assert [row["name"] for row in found["rows"]] == [
        *("beta-0.05_seed-1", "beta-0.05_seed-2", "beta-0.5_seed-1", "beta-0.5_seed-2")
    ]
    assert found["split"] == "dev"
    assert found["chosen"].endswith("_seed-1")
    chosen = next(row for row in found["rows"] if row["name"] == found["chosen"])
    rates = {
        beta: sum(r["value"] for r in found["rows"] if r["settings"]["train.loss.beta"] == beta)
        for beta in (0.05, 0.5)
    }
    assert rates[chosen["settings"]["train.loss.beta"]] == max(rates.values())
    # The run itself is the chosen training, measured on test prompts; what is shared is as it was.
    own, copied = (
        read_manifest(folder / "train") for folder in (run_dir, run_dir / "sweep" / found["chosen"])
    )
    assert own == copied
    assert sampled == read_manifest(run_dir / "sample")
    evaluated = read_manifest(run_dir / "evaluate")
    assert evaluated is not None
    assert evaluated.payload["config"]["split"] == "test"
    for row in found["rows"]:
        on_dev = read_manifest(run_dir / "sweep" / row["name"] / "dev" / "evaluate")
        assert on_dev is not None
        assert not (run_dir / "sweep" / row["name"] / "evaluate").exists()
    # Noise of two trainings, and a page that says all of it.
    assert found["noise"]["seeds"] == 2
    assert {one["source"] for one in found["noise"]["components"]} == {
        *("training seed", "prompts", "judge order")
    }
    page = (run_dir / "sweep" / "index.html").read_text()
    assert "train.loss.beta = 0.05" in page
    assert "2 seeds say little" in page
    assert str(run_dir / "sweep" / "index.html") in said.replace("\n", "")
    # Nothing is left to do, and everybody knows.
    states = json.loads(command("status", run_dir, "--json"))
    assert {state["state"] for state in states.values()} == {"fresh"}
    assert "sweep/beta-0.5_seed-2/train" in states
