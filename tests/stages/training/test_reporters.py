"""Reporters: what each is told, on resume too; absent or failing ones cost one clear line."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

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


class FakeService:
    """Stands in for the packages: remembers what it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[dict[str, Any]] = []
        self.told: list[tuple[int, dict[str, float]]] = []
        self.closed = 0
        self.fails_at: int | None = None
        found = set(REPORTERS)
        monkeypatch.setattr(
            reporters, "find_spec", lambda name: object() if name in found else None
        )
        for name in ("wandb", "trackio", "torch.utils.tensorboard"):
            module = ModuleType(name)
            module.init = self.open  # type: ignore[attr-defined]
            module.SummaryWriter = self.open_writer  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, name, module)

    def open(self, **settings: Any) -> "FakeService":
        self.opened.append(settings)
        return self

    def open_writer(self, folder: str, purge_step: int) -> "FakeService":
        return self.open(folder=folder, purge_step=purge_step)

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        pass

    def log(self, numbers: dict[str, float], step: int | None = None) -> None:
        own = dict(numbers)
        at = int(own.pop("step")) if step is None else step
        if at == self.fails_at:
            raise ConnectionError("no route to host\nsecond line")
        self.told.append((at, own))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        if not self.told or self.told[-1][0] != step:
            self.told.append((step, {}))
        self.told[-1][1][name] = value

    def finish(self) -> None:
        self.closed += 1

    close = finish


class Killer(Observer):
    def observe(self, row: Any, model: Any) -> None:
        if row["step"] == 5:
            raise KeyboardInterrupt


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> FakeService:
    return FakeService(monkeypatch)


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
    name: ReporterName, service: FakeService, run: Callable[..., TrainingRun[TokenExample]]
) -> None:
    rows = train(run(name))
    assert service.told == [(row["step"], scalars(row)) for row in rows]
    assert service.closed == 1
    with_it = [row.get("eval_loss") for row in rows]
    context = replace(run(name).context, runtime=Runtime())
    quiet = replace(run(name), context=replace(context, output=context.output.parent / "other"))
    quiet.context.output.mkdir()
    assert [row.get("eval_loss") for row in train(quiet)] == with_it


@pytest.mark.parametrize("name", get_args(ReporterName))
def test_a_resumed_training_goes_on_with_the_same_run(
    name: ReporterName, service: FakeService, run: Callable[..., TrainingRun[TokenExample]]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(replace(run(name), observers=[Killer()]))
    assert service.closed == 1
    train(run(name))
    first, second = service.opened
    assert second.pop("purge_step", 5) == 5  # after step 4, the last that was saved
    first.pop("purge_step", None)
    assert first == second
    # Saved every second step and killed in step 5, before it was reported.
    assert [step for step, _ in service.told] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_places_and_names(
    service: FakeService, run: Callable[..., TrainingRun[TokenExample]], tmp_path: Path
) -> None:
    for name in ("tensorboard", "wandb", "trackio"):
        train(run(name))
    board, wandb, trackio = service.opened
    assert board["folder"] == str(tmp_path / "my-run" / "tensorboard" / "sft")
    assert (wandb["project"], wandb["name"]) == ("prefline", "my-run-sft")
    assert wandb["dir"] == str(tmp_path / "my-run")
    assert trackio["name"].startswith("my-run-sft-")
    assert trackio["config"]["learning_rate"] == 1e-2


def test_a_reporter_that_fails_costs_a_warning_and_nothing_else(
    service: FakeService, run: Callable[..., TrainingRun[TokenExample]]
) -> None:
    service.fails_at = 3
    made = run("wandb")
    assert train(made)[-1]["step"] == 9
    assert [step for step, _ in service.told] == [0, 1, 2]
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
