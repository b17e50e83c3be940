"""Which checkpoints are kept and published, and that a killed training keeps the same ones."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from schemas.errors import DataError
from schemas.stage import SilentProgress, StageContext
from stages.training.checkpoints.config import BestCheckpoint, LastCheckpoint
from stages.training.checkpoints.retention import KeptCheckpoints
from stages.training.checkpoints.selection import best_steps as ranked_steps
from stages.training.config import TrainingConfig
from stages.training.loop import TrainingRun, train
from stages.training.monitoring.config import GuardSettings
from stages.training.monitoring.guard import Guard
from stages.training.monitoring.metrics import Row
from stages.training.monitoring.observers import Observer
from stages.training.objectives.supervised import CompletionLikelihood, TokenExample

NewModel = Callable[[], Any]
ACCURACY = BestCheckpoint(measure="eval_accuracy")


def save(model: Any, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({n: p.detach().clone() for n, p in model.named_parameters()}, folder / "w")


class Watcher(Observer):
    """Remembers the weights of every measured step."""

    def __init__(self) -> None:
        self.weights: dict[int, dict[str, torch.Tensor]] = {}
        self.rows: dict[int, Row] = {}

    def observe(self, row: Row, model: Any) -> None:
        self.rows[int(row["step"])] = row
        named = model.named_parameters()
        self.weights[int(row["step"])] = {n: p.detach().clone() for n, p in named}


class Killer(Observer):
    """A stand-in for whatever kills a process after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def observe(self, row: Row, model: Any) -> None:
        if row["step"] == self.step:
            raise KeyboardInterrupt


def kept_in(folder: Path, count: int = 1, rule: Any = None) -> KeptCheckpoints:
    return KeptCheckpoints(folder, rule or BestCheckpoint(), count, save, SilentProgress())


def files(folder: Path) -> dict[str, bytes]:
    names = (p for p in folder.rglob("*") if p.is_file() and "metrics" not in p.name)
    return {str(p.relative_to(folder)): p.read_bytes() for p in names}


@pytest.fixture
def run(
    new_model: NewModel, examples: list[TokenExample], config: TrainingConfig, tmp_path: Path
) -> TrainingRun[TokenExample]:
    # So high a learning rate that the held-out loss goes up and down.
    wild = config.model_copy(update={"learning_rate": 0.05, "save_every": 3})
    context = StageContext({}, tmp_path)
    return TrainingRun(
        new_model(), CompletionLikelihood(), examples[:18], examples[18:], wild, context, "test"
    )


def test_kept_are_the_best_and_the_last_with_the_weights_of_their_steps(
    run: TrainingRun[TokenExample], tmp_path: Path
) -> None:
    watcher, kept = Watcher(), kept_in(tmp_path, count=2)
    train(replace(run, observers=[watcher, kept]))
    losses = {s: r["eval_loss"] for s, r in watcher.rows.items() if s and "eval_loss" in r}
    best, second, *_ = sorted(losses, key=lambda s: losses[s])
    assert best != 9, "this test is about a best checkpoint that is not the last"
    published = kept.publish(run.model, 9)
    assert (published.step, published.final_step) == (best, 9)
    assert published.why == f"the lowest eval_loss, {losses[best]:.4g}, of 5 steps measured"
    places = {best: "model", second: f"checkpoints/step-{second}", 9: "checkpoints/step-9"}
    record = json.loads((tmp_path / "checkpoints.json").read_text())
    assert {c["step"]: c["path"] for c in record["checkpoints"]} == places
    for step, place in places.items():
        found = load_file(tmp_path / place / "w")
        assert all(torch.equal(p, found[n]) for n, p in watcher.weights[step].items())
    assert len(list((tmp_path / "checkpoints").iterdir())) == len(places) - 1


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("step", [1, 3, 4, 5, 6, 8, 9])
def test_killed_training_keeps_and_publishes_what_an_undisturbed_one_does(
    run: TrainingRun[TokenExample], new_model: NewModel, tmp_path: Path, count: int, step: int
) -> None:
    def go(folder: Path, *others: Observer) -> None:
        kept, model = kept_in(folder, count), new_model()
        folder.mkdir(exist_ok=True)
        context = StageContext({}, folder)
        rows = train(replace(run, model=model, context=context, observers=[kept, *others]))
        kept.publish(model, int(rows[-1]["step"]))

    go(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", Killer(step))
    at_most = 2 * count
    assert len(list((tmp_path / "cut" / "checkpoints").glob("step-*"))) <= at_most
    go(tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "resume")
    shutil.rmtree(tmp_path / "whole" / "resume")
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


@pytest.mark.parametrize("damaged", ["checkpoints/step-*/w", "metrics.jsonl"])
def test_what_a_killed_training_has_kept_is_refused_where_it_is_damaged(
    run: TrainingRun[TokenExample], new_model: NewModel, tmp_path: Path, damaged: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(replace(run, observers=[kept_in(tmp_path, 2), Killer(8)]))
    path = next(iter(tmp_path.glob(damaged)))
    data = path.read_bytes()
    at = data.index(b"loss") + 8 if damaged == "metrics.jsonl" else len(data) - 3
    digit = b"1" if data[at : at + 1] != b"1" else b"2"
    path.write_bytes(data[:at] + digit + data[at + 1 :])
    with pytest.raises(DataError, match=r"damaged since it was written; remove .* begins again"):
        train(replace(run, model=new_model(), observers=[kept_in(tmp_path, 2)]))
    path.write_bytes(data)
    kept, model = kept_in(tmp_path, 2), new_model()
    train(replace(run, model=model, observers=[kept]))
    kept.publish(model, 9)
    assert {seal.relative_to(tmp_path).parts[0] for seal in tmp_path.rglob("seal.json")} == {
        "resume"
    }


def test_the_loss_of_a_checkpoint_that_was_changed_since_is_refused(tmp_path: Path) -> None:
    class Loss:
        def measure(self, model: Any) -> float:
            return 0.5

    (tmp_path / "checkpoints").mkdir()
    record = tmp_path / "checkpoints" / "losses.json"

    def write(step: int) -> str:
        kept = KeptCheckpoints(
            tmp_path,
            LastCheckpoint(),
            1,
            save,
            SilentProgress(),
            loss=Loss(),  # type: ignore[arg-type]
        )
        kept._write(step, torch.nn.Linear(1, 1))
        return record.read_text()

    write(1)
    said = write(2)
    assert json.loads(said)["value"] == {"1": 0.5, "2": 0.5}
    record.write_text(said.replace("0.5", "0.25", 1))
    with pytest.raises(DataError, match=r"losses.json: damaged since it was written; remove"):
        write(3)


def test_killed_after_publication_publishes_the_same_again(
    run: TrainingRun[TokenExample], new_model: NewModel, tmp_path: Path
) -> None:
    kept = kept_in(tmp_path)
    train(replace(run, observers=[kept]))
    first = kept.publish(run.model, 9)
    before = {n: b for n, b in files(tmp_path).items() if not n.startswith("resume")}
    again, model = kept_in(tmp_path), new_model()
    train(replace(run, model=model, observers=[again]))
    assert again.publish(model, 9) == first
    after = {n: b for n, b in files(tmp_path).items() if not n.startswith("resume")}
    assert after == before


def test_without_held_out_items_the_last_is_published_and_nothing_else_is_kept(
    run: TrainingRun[TokenExample], tmp_path: Path
) -> None:
    kept = kept_in(tmp_path, count=3)
    train(replace(run, held_out=[], observers=[kept]))
    published = kept.publish(run.model, 9)
    assert (published.step, published.why) == (9, "the last step: eval_loss was not measured")
    assert not (tmp_path / "checkpoints").exists()


def test_a_training_that_made_it_worse_says_so(tmp_path: Path) -> None:
    progress = SilentProgress()
    kept = KeptCheckpoints(tmp_path, BestCheckpoint(), 1, save, progress)
    model = torch.nn.Linear(1, 1)
    for step, loss in enumerate([0.69, 0.8, 0.9]):
        kept.observe({"step": step, "eval_loss": loss}, model)
    assert kept.publish(model, 2).step == 1
    (warning,) = progress.warnings
    assert "no checkpoint is as good as the start (0.69; the best, of step 1, has 0.8)" in warning


def best_steps(rows: Sequence[Row], rule: Any, count: int) -> list[int]:
    return ranked_steps(rows, rule, count, lambda row: True)


def test_a_step_that_writes_badly_is_published_only_where_there_is_no_other(
    tmp_path: Path,
) -> None:
    def published(folder: Path, **rule: Any) -> tuple[int, str]:
        guard = Guard(GuardSettings(), 0.1, SilentProgress(), held_out=True)
        publish = BestCheckpoint(**rule)
        kept = KeptCheckpoints(folder, publish, 1, save, SilentProgress(), guard.is_sound)
        model = torch.nn.Linear(1, 1)
        for step, (loss, ends) in enumerate([(0.69, 1.0), (0.5, 0.9), (0.3, 0.4), (0.1, 0.0)]):
            row = {"step": step, "eval_loss": loss, "eval_completions/end_of_turn_rate": ends}
            for observer in (guard, kept):
                observer.observe(row, model)
        done = kept.publish(model, 3)
        return done.step, done.why

    assert published(tmp_path / "sound") == (
        1,
        "the lowest eval_loss, 0.5, of 1 step measured; "
        "2 more are unsound by what the policy wrote",
    )
    assert published(tmp_path / "any", sound_first=False) == (
        3,
        "the lowest eval_loss, 0.1, of 3 steps measured",
    )


def rows_of(values: Sequence[float], name: str = "eval_accuracy") -> list[Row]:
    return [{"step": step, name: value} for step, value in enumerate(values)]


def test_of_equals_the_later_is_best_and_the_start_is_no_candidate() -> None:
    assert best_steps(rows_of([1.0, 0.5, 0.75, 0.75, 0.5]), ACCURACY, 4) == [3, 2, 4, 1]
    assert best_steps(rows_of([0.1, 0.5, 0.2, 0.2], "eval_loss"), BestCheckpoint(), 1) == [3]
    assert best_steps(rows_of([1.0, 0.5, 0.75]), LastCheckpoint(), 2) == [2, 1]


def test_not_finite_is_never_best() -> None:
    assert best_steps(rows_of([0.0, float("nan"), 0.5, float("inf")]), ACCURACY, 3) == [2]


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=2, max_size=30))
def test_what_is_best_in_the_end_was_among_the_best_when_it_was_measured(
    values: list[float],
) -> None:
    """So nothing that is wanted in the end can have been deleted on the way."""
    rows = rows_of(values)
    for step in best_steps(rows, ACCURACY, 3):
        assert step in best_steps(rows[: step + 1], ACCURACY, 3)
