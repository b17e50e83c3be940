"""Training stages under torchrun, from outside: one node, two nodes, a killed rank."""

import json
import shutil
import socket
import time
from pathlib import Path

import pytest

from pipeline.runs.ranks import on_several_ranks, refuse_several_ranks
from schemas.errors import ConfigError
from stages.training.checkpoints.resume import CHECKPOINTS
from tests.fixtures.command_line import Done, on, prefline
from tests.fixtures.ranks import finished, kill_rank, node, started, torchrun

STEPS = tuple(f"train.training.{name}" for name in ("max_steps=24", "save_every=2", "eval_every=8"))


def errors(done: Done) -> list[str]:
    """What our own code calls an error; torchrun adds a report."""
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row["loss"] for row in map(json.loads, lines) if "loss" in row]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_killed_rank_ends_the_others_with_one_line_and_one_process_goes_on(
    run_dir: Path, tmp_path: Path
) -> None:
    shutil.rmtree(run_dir / "train")
    undisturbed = Path(shutil.copytree(run_dir, tmp_path / "undisturbed"))
    partial = run_dir / "train.partial"
    agent = started(torchrun(2, "pipeline", *on(run_dir, "train", *STEPS)), tmp_path / "cache")
    while len(list(partial.glob(f"{CHECKPOINTS}/step-[1-9]*"))) == 0 and agent.poll() is None:
        time.sleep(0.01)
    kill_rank(tmp_path / "cache", 1)
    done = finished(agent)  # long before the others would have waited in vain
    assert done.returncode != 0
    assert len(errors(done)) == 1, done.stderr
    assert "start the same torchrun command again" in errors(done)[0]
    assert not (run_dir / "train").exists()

    again = prefline(*on(run_dir, "train", *STEPS))
    assert again.returncode == 0, again.stderr
    assert "continuing where it was interrupted" in again.stderr
    assert prefline(*on(undisturbed, "train", *STEPS)).returncode == 0
    expected = losses(undisturbed / "train")
    assert len(expected) == 24
    assert losses(run_dir / "train") == pytest.approx(expected, abs=1e-5)


def test_two_nodes_train_one_judge(run_dir: Path, tmp_path: Path) -> None:
    settings = (
        "judge.kind=preference_model",
        "judge.min_label_mass=0.0",  # six steps teach no labels; with 0.5 none is scored
        "judge.training.max_steps=6",
        "judge.training.batch_size=8",
    )
    arguments = on(run_dir, "judge", *settings)
    alone = Path(shutil.copytree(run_dir, tmp_path / "alone"))
    words = node(f"127.0.0.1:{free_port()}", 2, 1, "pipeline", *arguments)
    agents = [started(words, tmp_path / "cache") for _ in range(2)]
    ends = [finished(agent) for agent in agents]
    assert [end.returncode for end in ends] == [0, 0], ends[0].stderr + ends[1].stderr
    said = "".join(end.stderr for end in ends)
    assert said.count("judge: done") == 1  # by rank 0, on whichever node that is
    own = on(alone, "judge", *settings)
    assert prefline(*own).returncode == 0
    manifest = json.loads((run_dir / "judge" / "manifest.json").read_text())
    assert manifest["provenance"]["hardware"]["ranks"] == 2
    assert losses(run_dir / "judge") == pytest.approx(losses(alone / "judge"), abs=1e-5)
    assert (run_dir / "judge" / "model" / "model.safetensors").exists()


def test_what_is_up_to_date_is_not_trained_again(run_dir: Path, tmp_path: Path) -> None:
    before = losses(run_dir / "sft")
    done = finished(started(torchrun(2, "pipeline", *on(run_dir, "sft")), tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "sft" in line] == ["sft: up to date"]
    assert losses(run_dir / "sft") == before


def under_torchrun(monkeypatch: pytest.MonkeyPatch, rank: int, size: int) -> None:
    settings = {"TORCHELASTIC_RUN_ID": "test", "RANK": str(rank), "WORLD_SIZE": str(size)}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def test_what_does_not_train_is_refused_by_one_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    under_torchrun(monkeypatch, 0, 2)
    with pytest.raises(ConfigError, match="prefline run does not train"):
        refuse_several_ranks("run")
    under_torchrun(monkeypatch, 1, 2)
    with pytest.raises(SystemExit):
        refuse_several_ranks("run")


def test_one_rank_is_a_process_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    under_torchrun(monkeypatch, 0, 1)
    assert not on_several_ranks()
    refuse_several_ranks("run")
