"""Reporters: what each is told, on resume too; absent or failing ones cost one clear line."""

import os
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, get_args

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from schemas.errors import ConfigError
from schemas.stage import ReporterName, Runtime, SilentProgress, StageContext
from stages.training.config import TrainingConfig
from stages.training.loop import TrainingRun, train
from stages.training.monitoring import reporters
from stages.training.monitoring.observers import Observer
from stages.training.monitoring.reporters import REPORTERS, refuse_missing_reporters
from stages.training.monitoring.reporters.protocol import scalars
from stages.training.objectives.supervised import CompletionLikelihood, TokenExample

NewModel = Callable[[], Any]


class Told(Protocol):
    """A service, and what it says it was told: numbers by step, in the order of steps."""

    def told(self) -> list[tuple[int, dict[str, float]]]: ...


class FakeWandb:
    """Stands in for wandb, which wants an account: remembers what it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.closed = 0
        self.fails_at: int | None = None
        monkeypatch.setattr(reporters, "find_spec", lambda name: object())
        module = ModuleType("wandb")
        module.init = self.open  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "wandb", module)

    def open(self, **settings: Any) -> "FakeWandb":
        self.opened.append(settings)
        return self

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        pass

    def log(self, numbers: dict[str, float]) -> None:
        own = dict(numbers)
        at = int(own.pop("step"))
        if at == self.fails_at:
            raise ConnectionError("no route to host\nsecond line")
        self.logged.append((at, own))

    def finish(self) -> None:
        self.closed += 1

    def told(self) -> list[tuple[int, dict[str, float]]]:
        return self.logged


class TensorBoard:
    """TensorBoard itself reads the event files."""

    def __init__(self, run_directory: Path) -> None:
        self.folder = run_directory / "tensorboard" / "sft"

    def told(self) -> list[tuple[int, dict[str, float]]]:
        read = EventAccumulator(str(self.folder)).Reload()
        told: dict[int, dict[str, float]] = defaultdict(dict)
        for name in read.Tags()["scalars"]:
            for event in read.Scalars(name):
                assert name not in told[event.step], "a step is there once"
                told[event.step][name] = event.value
        return sorted(told.items())


class Trackio:
    """trackio itself reads what it stores."""

    def __init__(self) -> None:
        import trackio

        self._stored = trackio.SQLiteStorage
        self._before = set(self._stored.get_runs("prefline"))

    @property
    def run(self) -> str:
        [name] = set(self._stored.get_runs("prefline")) - self._before
        return str(name)

    @property
    def config(self) -> dict[str, Any]:
        return dict(self._stored.get_run_config("prefline", self.run))

    def told(self) -> list[tuple[int, dict[str, float]]]:
        rows = self._stored.get_logs("prefline", self.run)
        return [(r["step"], {k: v for k, v in r.items() if "/" in k}) for r in rows]


class Killer(Observer):
    def observe(self, row: Any, model: Any) -> None:
        if row["step"] == 5:
            raise KeyboardInterrupt


@pytest.fixture(scope="module", autouse=True)
def trackio_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Named before trackio is imported, as it asks only then."""
    os.environ["TRACKIO_DIR"] = str(tmp_path_factory.mktemp("trackio"))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    return FakeWandb(monkeypatch)


@pytest.fixture
def service(name: ReporterName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    if name == "tensorboard":
        return TensorBoard(tmp_path / "my-run")
    return Trackio() if name == "trackio" else FakeWandb(monkeypatch)


@pytest.fixture
def run(
    new_model: NewModel, examples: list[TokenExample], config: TrainingConfig, tmp_path: Path
) -> Callable[..., TrainingRun[TokenExample]]:
    def make(name: ReporterName) -> TrainingRun[TokenExample]:
        output = tmp_path / "my-run" / "sft.partial"
        output.mkdir(parents=True, exist_ok=True)
        context = StageContext({}, output, Runtime(reporters=(name,)), SilentProgress())
        return TrainingRun(
            new_model(), CompletionLikelihood(), examples[:18], examples[18:], config, context, "t"
        )

    return make


@pytest.mark.parametrize("name", get_args(ReporterName))
def test_every_row_is_reported_and_the_training_is_the_same(
    name: ReporterName, service: Told, run: Callable[..., TrainingRun[TokenExample]]
) -> None:
    rows = train(run(name))
    told = service.told()
    assert [step for step, _ in told] == [row["step"] for row in rows]
    for (_, numbers), row in zip(told, rows, strict=True):
        assert numbers == pytest.approx(scalars(row), rel=1e-6)  # TensorBoard has 32 bits
    with_it = [row.get("eval_loss") for row in rows]
    context = replace(run(name).context, runtime=Runtime())
    quiet = replace(run(name), context=replace(context, output=context.output.parent / "other"))
    quiet.context.output.mkdir()
    assert [row.get("eval_loss") for row in train(quiet)] == with_it


@pytest.mark.parametrize("name", get_args(ReporterName))
def test_a_resumed_training_goes_on_with_the_same_run(
    name: ReporterName, service: Told, run: Callable[..., TrainingRun[TokenExample]]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(replace(run(name), observers=[Killer()]))
    # Saved every second step and killed in step 5, before it was reported.
    assert [step for step, _ in service.told()] == [0, 1, 2, 3, 4]
    train(run(name))
    assert [step for step, _ in service.told()] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_wandb_is_opened_alike_and_closed_each_time(
    wandb: FakeWandb, run: Callable[..., TrainingRun[TokenExample]], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(replace(run("wandb"), observers=[Killer()]))
    assert wandb.closed == 1
    train(run("wandb"))
    first, second = wandb.opened
    assert first == second
    assert wandb.closed == 2
    assert (first["project"], first["name"]) == ("prefline", "my-run-sft")
    assert first["dir"] == str(tmp_path / "my-run")


def test_trackio_has_a_run_of_its_own_with_the_settings(
    run: Callable[..., TrainingRun[TokenExample]],
) -> None:
    stored = Trackio()
    train(run("trackio"))
    assert stored.run.startswith("my-run-sft-")
    assert stored.config["learning_rate"] == 1e-2


def test_a_reporter_that_fails_costs_a_warning_and_nothing_else(
    wandb: FakeWandb, run: Callable[..., TrainingRun[TokenExample]]
) -> None:
    wandb.fails_at = 3
    made = run("wandb")
    assert train(made)[-1]["step"] == 9
    assert [step for step, _ in wandb.told()] == [0, 1, 2]
    progress = made.context.progress
    assert isinstance(progress, SilentProgress)
    (warning,) = progress.warnings
    assert warning.startswith("wandb reports no further (ConnectionError: no route to host);")


@pytest.mark.parametrize("name", get_args(ReporterName))
def test_an_absent_one_is_named_with_its_extra(
    name: ReporterName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporters, "find_spec", lambda _: None)
    with pytest.raises(ConfigError) as refused:
        refuse_missing_reporters(Runtime(reporters=(name,)))
    assert f"{name} is not installed" in str(refused.value)
    assert f"'.[{name}]'" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_names_are_those_of_the_settings() -> None:
    assert set(REPORTERS) == set(get_args(ReporterName))


def test_names_of_scalars() -> None:
    row = {"step": 3, "loss": 0.5, "eval_rewards/margins": 1.0}
    assert scalars(row) == {"train/loss": 0.5, "eval/rewards/margins": 1.0}
