"""`prefline evaluate --checkpoint-step N`: an evaluation beside the run's own."""

import json
from pathlib import Path

from tests.fixtures.command_line import hashes, on, prefline, refusal


def test_an_earlier_checkpoint_is_evaluated_beside_the_published_one(
    run_dir: Path, finished: Path
) -> None:
    record = json.loads((run_dir / "train" / "checkpoints.json").read_text())
    published = record["published_step"]
    other = next(c for c in record["checkpoints"] if c["step"] != published)
    step = str(other["step"])
    done = prefline(*on(run_dir, "evaluate"), "--checkpoint-step", step, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outcome"] == "done"
    assert hashes(run_dir / "evaluate") == hashes(finished / "evaluate")
    beside = run_dir / f"checkpoint-{step}" / "evaluate"
    manifest = json.loads((beside / "manifest.json").read_text())
    assert manifest["payload"]["config"]["checkpoint_step"] == other["step"]
    assert (beside / "win_rates.json").exists()
    again = prefline(*on(run_dir, "evaluate"), "--checkpoint-step", step)
    assert "evaluate: up to date" in again.stderr
    assert "evaluate: up to date" in prefline(*on(run_dir, "evaluate")).stderr

    weights = json.loads((run_dir / "train" / "manifest.json").read_text())["outputs"]
    assert f"{other['path']}/model.safetensors" in weights
    counts = json.loads((run_dir / "train" / "manifest.json").read_text())["counts"]
    assert counts["published_step"] == published


def test_only_evaluate_has_checkpoints_and_only_kept_ones(run_dir: Path) -> None:
    said = refusal(prefline(*on(run_dir, "report"), "--checkpoint-step", "2"))
    assert "No such option: --checkpoint-step" in said
    said = refusal(prefline(*on(run_dir, "evaluate"), "--checkpoint-step", "999"))
    assert "no checkpoint of step 999 was kept, only of " in said


def test_the_manifest_says_which_step_is_published_and_why(finished: Path) -> None:
    manifest = json.loads((finished / "train" / "manifest.json").read_text())
    record = json.loads((finished / "train" / "checkpoints.json").read_text())
    said = f"train: step {record['published_step']} is published: {record['why']}"
    assert said in manifest["notes"]
    assert record["why"].startswith("the lowest eval_loss, ")
