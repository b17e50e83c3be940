"""The loop: accumulation, epochs, schedule, the record, resume after a kill, and failures."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from evals.memory.between_layers import is_trimmed
from schemas.errors import BackendError, DataError, StaleInputError
from schemas.stage import StageContext
from stages.training.checkpoints.resume import CHECKPOINTS, remove_checkpoints
from stages.training.config import TrainingConfig
from stages.training.engines.choose import PaddedEngine
from stages.training.loop import TrainingRun, train
from stages.training.monitoring.metrics import PERFORMANCE, Row
from stages.training.objectives.supervised import (
    CompletionLikelihood,
    TokenExample,
    train_supervised,
)
from stages.training.schedule import StepPlan

NewModel = Callable[[], Any]


class Interrupted(BaseException):
    """A stand-in for whatever kills a process."""


class Fragile(CompletionLikelihood):
    """Dies, or gives NaN, after so many micro-batches."""

    def __init__(self, dies_after: int | None = None, nan_after: int | None = None) -> None:
        super().__init__()
        self.calls, self.dies_after, self.nan_after = 0, dies_after, nan_after

    def accumulate(self, model: Any, items: Any, scale: float) -> Mapping[str, torch.Tensor]:
        if self.calls == self.dies_after:
            raise Interrupted
        columns = dict(super().accumulate(model, items, scale))
        if self.calls == self.nan_after:
            columns["loss"][0] = float("nan")
        self.calls += 1
        return columns


def deterministic(rows: list[Row]) -> list[Row]:
    return [{k: v for k, v in row.items() if k not in PERFORMANCE} for row in rows]


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def assert_same_weights(one: Any, other: Any) -> None:
    assert all(torch.equal(p, weights(other)[n]) for n, p in weights(one).items())


@pytest.fixture
def run(
    new_model: NewModel,
    examples: list[TokenExample],
    config: TrainingConfig,
    context: StageContext,
) -> TrainingRun[TokenExample]:
    return TrainingRun(
        new_model(), CompletionLikelihood(), examples[:18], examples[18:], config, context, "test"
    )


def into(run: TrainingRun[TokenExample], folder: Path, **changes: Any) -> Any:
    folder.mkdir(exist_ok=True)
    return replace(run, context=StageContext({}, folder), **changes)


def test_micro_batches_of_any_size_give_the_same_training(
    run: TrainingRun[TokenExample], new_model: NewModel, tmp_path: Path
) -> None:
    curves = []
    for size in (None, 1, 3):
        config = run.config.model_copy(update={"micro_batch_size": size})
        rows = train(into(run, tmp_path / str(size), model=new_model(), config=config))
        curves.append([row["loss"] for row in rows if "loss" in row])
    assert curves[1] == pytest.approx(curves[0], abs=1e-4)
    assert curves[2] == pytest.approx(curves[0], abs=1e-4)


def test_loss_of_a_step_is_a_mean_over_all_its_tokens(
    run: TrainingRun[TokenExample], start_model: Any
) -> None:
    rows = train(run)
    step = [run.items[i] for i in StepPlan(18, run.config).items_at(1)]
    columns = CompletionLikelihood().measure(start_model, step)
    expected = float(columns["loss"].sum()) / sum(len(e.completion_ids) for e in step)
    assert rows[1]["loss"] == pytest.approx(expected, abs=1e-5)


def test_every_epoch_sees_every_item_once_in_another_order(config: TrainingConfig) -> None:
    plan = StepPlan(19, config)
    assert plan.steps_per_epoch == 3
    epochs = [
        [i for step in range(3 * e + 1, 3 * e + 4) for i in plan.items_at(step)] for e in range(3)
    ]
    assert all(sorted(epoch) == list(range(19)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert len(plan.items_at(3)) == 3  # the last batch is kept


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        ("constant", [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_schedule_by_hand(schedule: str, expected: list[float]) -> None:
    config = TrainingConfig.model_validate(
        {"learning_rate": 1.0, "lr_schedule": schedule, "warmup_ratio": 0.2, "max_steps": 10}
    )
    plan = StepPlan(100, config)
    rates = [plan.learning_rate_at(step) for step in range(1, 11)]
    assert rates == pytest.approx(expected)


def test_cosine_ends_near_zero_and_halves_in_the_middle() -> None:
    config = TrainingConfig(learning_rate=1.0, lr_schedule="cosine", max_steps=100)
    plan = StepPlan(100, config)
    assert plan.learning_rate_at(1) == 1
    assert plan.learning_rate_at(51) == pytest.approx(0.5)
    assert 0 < plan.learning_rate_at(100) < 0.001


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_schedules_decay_to_the_least_rate_that_is_declared(schedule: str) -> None:
    config = TrainingConfig.model_validate(
        {"learning_rate": 1.0, "lr_schedule": schedule, "max_steps": 100, "min_lr_ratio": 0.1}
    )
    plan = StepPlan(100, config)
    assert plan.learning_rate_at(1) == 1
    assert plan.learning_rate_at(51) == pytest.approx(0.55)
    assert 0.1 < plan.learning_rate_at(100) < 0.11


@pytest.mark.parametrize(("epochs", "steps"), [(0.5, 13), (1, 25), (1.5, 38), (2, 50), (0.01, 1)])
def test_a_fraction_of_an_epoch_is_so_many_of_its_steps(epochs: float, steps: int) -> None:
    plan = StepPlan(100, TrainingConfig(num_epochs=epochs, batch_size=4))
    assert plan.total_steps == steps
    assert len(plan.items_used()) == min(100, steps * 4)


def test_record_has_a_row_per_step_and_held_out_measures_where_due(
    run: TrainingRun[TokenExample],
) -> None:
    rows = train(run)
    assert [row["step"] for row in rows] == list(range(10))
    assert [row["step"] for row in rows if "eval_loss" in row] == [0, 2, 4, 6, 8, 9]
    folder = run.context.output
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    table = pq.read_table(folder / "metrics.parquet")
    assert table["step"].to_pylist() == list(range(10))
    assert table["eval_loss"].null_count == 4
    assert rows[-1]["epoch"] == 3
    assert rows[-1]["loss"] < rows[1]["loss"]


def test_holes_in_the_heap_are_given_back_between_layers(run: TrainingRun[TokenExample]) -> None:
    assert not is_trimmed(run.model)
    train(replace(run, config=run.config.model_copy(update={"max_steps": 1})))
    assert is_trimmed(run.model)


def test_max_steps_takes_the_place_of_epochs(run: TrainingRun[TokenExample]) -> None:
    short = replace(run, config=run.config.model_copy(update={"max_steps": 2}))
    assert train(short)[-1]["step"] == 2


@pytest.mark.parametrize("micro_batches", [1, 4, 5, 8])
def test_resume_gives_the_undisturbed_run_bit_for_bit(
    run: TrainingRun[TokenExample], new_model: NewModel, tmp_path: Path, micro_batches: int
) -> None:
    whole = into(run, tmp_path / "whole", model=new_model())
    expected = deterministic(train(whole))
    cut = tmp_path / "cut"
    with pytest.raises(Interrupted):
        train(into(run, cut, model=new_model(), objective=Fragile(dies_after=micro_batches)))
    resumed = into(run, cut, model=new_model())
    assert deterministic(train(resumed)) == expected
    assert_same_weights(resumed.model, whole.model)
    lines = (cut / "metrics.jsonl").read_text().splitlines()
    assert deterministic([json.loads(line) for line in lines]) == expected


def test_a_finished_training_is_not_trained_again(
    run: TrainingRun[TokenExample], new_model: NewModel
) -> None:
    expected = deterministic(train(run))
    again = replace(run, model=new_model(), objective=Fragile(dies_after=0))
    assert deterministic(train(again)) == expected
    assert_same_weights(again.model, run.model)


def test_only_the_newest_checkpoint_is_kept_and_none_after_publication(
    run: TrainingRun[TokenExample],
) -> None:
    train(run)
    folder = run.context.output
    assert [p.name for p in (folder / CHECKPOINTS).iterdir()] == ["step-9"]
    remove_checkpoints(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["metrics.jsonl", "metrics.parquet"]


def test_another_identity_is_refused(run: TrainingRun[TokenExample]) -> None:
    train(replace(run, identity={"reference": "one"}))
    with pytest.raises(StaleInputError, match="another reference"):
        train(replace(run, identity={"reference": "two"}))


def test_nan_stops_with_step_and_ids_and_leaves_the_last_checkpoint(
    run: TrainingRun[TokenExample],
) -> None:
    with pytest.raises(BackendError, match=r"step 4: the loss is not finite \(items example-\d+\)"):
        train(replace(run, objective=Fragile(nan_after=3)))
    assert [p.name for p in (run.context.output / CHECKPOINTS).iterdir()] == ["step-2"]
    assert all(p.isfinite().all() for p in weights(run.model).values())


def test_no_items_is_a_data_error(run: TrainingRun[TokenExample]) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        train(replace(run, items=[]))


def test_random_state_of_the_caller_is_left_alone(run: TrainingRun[TokenExample]) -> None:
    before = torch.get_rng_state()
    train(run)
    assert torch.equal(torch.get_rng_state(), before)


def test_bfloat16_keeps_float32_weights_and_learns(run: TrainingRun[TokenExample]) -> None:
    config = run.config.model_copy(update={"dtype": "bfloat16"})
    rows = train(
        replace(run, objective=CompletionLikelihood(PaddedEngine("bfloat16")), config=config)
    )
    assert all(p.dtype == torch.float32 for p in run.model.parameters())
    assert rows[-1]["loss"] < rows[1]["loss"]


def test_supervised_reports_accuracy_on_held_out_examples(
    new_model: NewModel, config: TrainingConfig, context: StageContext
) -> None:
    examples = [TokenExample(str(i), [10 + i], [50 + i, 2]) for i in range(4)]
    slow = config.model_copy(update={"num_epochs": 40, "learning_rate": 3e-2})
    result = train_supervised(new_model(), examples, examples, slow, context, "sft")
    assert result.counts == {"train": 4, "held_out": 4, "steps": 40, "trained_tokens": 8}
    assert result.metrics["eval_token_accuracy"] == 1
    assert result.metrics["eval_exact_match"] == 1
    assert not set(PERFORMANCE) & set(result.metrics)
