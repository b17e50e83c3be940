"""What `run --dry-run` says, before anything is spent."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from schemas.manifest import Manifest, read_manifest
from tests.fixtures.command_line import hashes, on, prefline


def plan(run_dir: Path, *settings: str) -> dict[str, Any]:
    done = prefline(*on(run_dir, "run", *settings), "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def of(found: dict[str, Any], stage: str, number: int = 1) -> dict[str, Any]:
    one: dict[str, Any] = next(
        s for s in found["stages"] if (s["stage"], s["round"]) == (stage, number)
    )
    return one


def test_a_finished_run_has_nothing_to_do(finished: Path) -> None:
    found = plan(finished)
    assert found["total"] == {"stages": 0, "tokens": 0, "seconds": 0, "cost": 0}
    assert not any(stage["runs"] for stage in found["stages"])
    shown = prefline(*on(finished, "run"), "--dry-run").stdout
    assert "nothing would run" in shown


def test_a_changed_setting_is_priced_at_the_rate_measured_before(finished: Path) -> None:
    found = plan(finished, "sample.n=8")
    assert not of(found, "judge")["runs"]
    sample, label = of(found, "sample"), of(found, "label")
    assert sample["why"] == "config.n: 4 -> 8"
    assert sample["units"] == 16 * 8
    assert sample["tokens"] == 16 * 8 * 8
    before = read_manifest(finished / "sample")
    assert before is not None
    rate = before.provenance.wall_seconds / before.counts["completions"]
    assert sample["seconds"] == round(128 * rate, 1)
    assert label["units"] == 2 * 16 * (8 * 7 // 2)


def test_more_rounds_are_planned_from_the_first(finished: Path) -> None:
    found = plan(finished, "rounds.n=2")
    assert not of(found, "train")["runs"]
    second = of(found, "sample", 2)
    assert second["state"] == "missing"
    assert second["units"] == 64
    assert second["seconds"] is not None
    assert of(found, "label", 2)["units"] == 2 * 16 * 6


@pytest.mark.parametrize("change", ["sft.training.seed=99", "ingest.seed=99"])
def test_an_estimate_holds_what_then_happens(finished: Path, change: str) -> None:
    found = plan(finished, change)
    for stage in ("sft", "judge", "sample", "label", "train", "evaluate"):
        made = read_manifest(finished / stage)
        planned = of(found, stage)
        assert made is not None
        assert planned["runs"] or stage == "judge"
        if planned["units"] is not None:
            assert made.counts[planned["unit"]] <= planned["units"]
        elif stage != "judge":  # what ingest will find, nobody knows
            assert change.startswith("ingest")


def test_a_dry_run_leaves_no_trace(finished: Path, tmp_path: Path) -> None:
    before = hashes(finished, "*")
    plan(finished, "sample.n=8")
    assert hashes(finished, "*") == before
    found = plan(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert of(found, "ingest")["state"] == "missing"
    # The recipe limits how many prompts are sampled, whatever ingest will find.
    assert of(found, "label")["units"] == 2 * 16 * 6
    assert of(found, "label")["seconds"] is None
    shown = prefline(*on(tmp_path / "new", "run"), "--dry-run").stdout
    assert "nothing in this run tells yet" in " ".join(shown.split())


def test_a_judge_with_a_price_is_priced_by_what_its_verdicts_cost_before(
    finished: Path, tmp_path: Path
) -> None:
    run_dir = Path(shutil.copytree(finished, tmp_path / "run"))
    record = run_dir / "judge" / "manifest.json"
    manifest = json.loads(record.read_text())
    manifest["counts"] |= {"verdicts": 44, "judge_cost_millionths": 22_000}
    record.write_text(Manifest.model_validate(manifest).sealed_json())
    served = (
        "judge.kind=llm",
        "judge.server.base_url=http://127.0.0.1:1/v1",
        "judge.server.model=m",
        "runtime.judge_server.price_per_million_prompt_tokens=1",
    )
    found = plan(run_dir, *served, "sample.n=8")
    label = of(found, "label")
    assert label["cost"] == pytest.approx(label["units"] * 0.022 / 44)
    paid = [of(found, name)["cost"] for name in ("judge", "label", "evaluate")]
    assert found["total"]["cost"] == pytest.approx(sum(paid), abs=1e-5)
    assert of(found, "train")["cost"] is None
    unpriced = plan(run_dir, *served[:-1], "sample.n=8")
    assert of(unpriced, "label")["cost"] is None
