"""The one training loop: every stage that trains a model goes through `train`."""

import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evals.memory.between_layers import trim_between_layers
from schemas.errors import BackendError, DataError
from schemas.stage import StageContext, Task
from stages.training.checkpoints.resume import (
    Remembered,
    drop_checkpoints_after,
    restore_training_state,
    save_training_state,
)
from stages.training.config import TrainingConfig
from stages.training.distributed.rank_partition import Dealt
from stages.training.distributed.sharding import trainable_parameters, whole
from stages.training.distributed.world import current_world, seed_rank, share_file
from stages.training.engines.precision import matmul_precision
from stages.training.monitoring.metrics import METRICS_JSONL, MetricsLog, Row
from stages.training.monitoring.observers import Observer
from stages.training.monitoring.reporters import open_reporters
from stages.training.objectives.base import Objective
from stages.training.optimizer import adamw
from stages.training.schedule import StepPlan

Item = TypeVar("Item")

_SHOW_EVERY_SECONDS = 0.2
_UPDATES = "reference_updates"


class Follower(Protocol[Item]):
    """What items are compared with, where it changes as training goes on."""

    tensors: dict[str, Tensor]
    updates: int
    tokens_scored: int

    def attach(self, model: PreTrainedModel, items: Sequence[Item]) -> Sequence[Item]:
        """The items with what it says of them now."""

    def after_step(self, step: int, model: PreTrainedModel) -> None:
        """Change, where the step is one after which it does."""

    def restore(self, updates: int, tensors: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""


@dataclass(frozen=True)
class TrainingRun(Generic[Item]):
    """A training: what is trained, on what, how, and where it is recorded.

    `identity` is what defines the training beside its config (the reference policy); a checkpoint
    with another identity is refused. `observers` look on, and the reporters of the runtime.
    """

    model: PreTrainedModel
    objective: Objective[Item]
    items: Sequence[Item]
    held_out: Sequence[Item]
    config: TrainingConfig
    context: StageContext
    title: str
    identity: Mapping[str, str] = field(default_factory=dict)
    observers: Sequence[Observer] = ()
    follower: Follower[Item] | None = None


def train(run: TrainingRun[Item]) -> list[Row]:
    """Train `run.model` in place and return all rows of the record, oldest first.

    Continues from the newest checkpoint in the stage's directory; on a CPU the result is bit for
    bit that of an undisturbed run. The loss of a step is normalised over the whole step, so
    micro-batches of any size give the same gradient.

    Raises:
        DataError: no items.
        BackendError: loss or gradient is not finite, or memory ran out.
        StaleInputError: the checkpoint belongs to another training.
    """
    if not run.items:
        raise DataError(f"{run.title}: nothing to train on: no item is left in the train split")
    trim_between_layers(run.model)
    devices = [run.model.device] if run.model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), matmul_precision(run.config.matmul_precision):
        torch.manual_seed(run.config.seed)
        return _Trainer(run).run_all()


class _Trainer(Generic[Item]):
    def __init__(self, run: TrainingRun[Item]) -> None:
        self.run = run
        self.plan = StepPlan(len(run.items), run.config)
        self.observers = [*run.observers, *_reporters(run)]
        self.parameters = list(trainable_parameters(run.model).values())
        self.optimizer = adamw(self.parameters, run.config)
        self.micro_batch_size = run.config.micro_batch_size or run.config.batch_size

    def run_all(self) -> list[Row]:
        run = self.run
        drop_checkpoints_after(run.context.output, self.plan.total_steps)
        resumed, record = self._restore()
        share_file(run.context.output / METRICS_JSONL)
        log = MetricsLog(run.context.output, resumed, record)
        try:
            for observer in self.observers:
                observer.begin(log.rows)
            with run.context.progress.task(run.title, self.plan.total_steps, "step") as task:
                task.advance(resumed or 0)
                self._run_from(resumed, log, task)
        finally:
            log.close()
            for observer in self.observers:
                observer.close()
        log.write_parquet()
        run.model.eval()
        return log.rows

    def _restore(self) -> tuple[int | None, str]:
        """The step to go on from, None for the start, and the digest of the metrics up to it."""
        run, remembered = self.run, Remembered()
        resumed = restore_training_state(
            run.context.output, run.model, self.optimizer, run.identity, remembered
        )
        numbers = remembered.numbers
        run.objective.remembered |= {n: v for n, v in numbers.items() if n != _UPDATES}
        if run.follower is not None and resumed is not None:
            run.follower.restore(int(numbers.get(_UPDATES, 0)), remembered.tensors)
        return resumed, remembered.record

    def _remembered(self, record: str) -> Remembered:
        follower, numbers = self.run.follower, dict(self.run.objective.remembered)
        if follower is None:
            return Remembered(numbers, record=record)
        return Remembered({**numbers, _UPDATES: follower.updates}, follower.tensors, record)

    def _run_from(self, resumed: int | None, log: MetricsLog, task: Task) -> None:
        first = 0 if resumed is None else resumed + 1
        shown = 0.0
        for step in range(first, self.plan.total_steps + 1):
            row = self._row(step)
            if row:
                log.append(row)
                for observer in self.observers:
                    observer.observe(row, self.run.model)
            if self.plan.saves_at(step):
                self._save(step, log.digest())
            task.advance(1 if step else 0)
            due = time.monotonic() - shown > _SHOW_EVERY_SECONDS or step == self.plan.total_steps
            if due or self.plan.evaluates_at(step):
                task.metrics(row)
                shown = time.monotonic()

    def _row(self, step: int) -> Row:
        """Metrics of step `step`, trained on its items; step 0 only evaluates."""
        metrics: Row = self._train_step(step) if step else {}
        if self.plan.evaluates_at(step):
            metrics |= self._evaluate(step)
        if not metrics:
            return {}
        return {"step": step, "epoch": self.plan.epoch_at(step), **metrics}

    def _train_step(self, step: int) -> Row:
        run, started = self.run, time.perf_counter()
        items: Sequence[Item] = [run.items[i] for i in self.plan.items_at(step)]
        _training_mode(run.model)
        if run.follower is not None:
            items = run.follower.attach(run.model, items)
        self.optimizer.zero_grad()
        scale = 1.0 / run.objective.denominator(items)
        dealt = self._dealt(items)
        seed_rank(run.config.seed, step)
        with _memory_errors(step):
            if run.objective.looks_at_batch:
                seen = [run.objective.measure(run.model, micro) for micro, _ in dealt.passes()]
                run.objective.see_batch(dealt.items, dealt.columns(seen), training=True)
            parts = [
                run.objective.accumulate(run.model, micro, weight * scale)
                for micro, weight in dealt.passes()
            ]
            norm = self._clip()
            columns = dealt.columns(parts)
        _refuse_not_finite(step, norm, columns["loss"], [*map(run.objective.key, dealt.items)])
        learning_rate = self.plan.learning_rate_at(step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        if run.follower is not None:
            run.follower.after_step(step, run.model)
        tokens = sum(map(run.objective.num_tokens, items))
        return {
            **run.objective.summarise(columns),
            **_followed(run.follower),
            "learning_rate": learning_rate,
            "grad_norm": norm,
            f"num_{run.objective.unit}s": len(items),
            "num_tokens": tokens,
            "tokens_per_second": tokens / (time.perf_counter() - started),
            "peak_memory_bytes": _peak_memory(run.model.device),
        }

    def _dealt(self, items: Sequence[Item]) -> Dealt[Item]:
        objective, size = self.run.objective, self.micro_batch_size
        return Dealt(items, objective.num_tokens, lambda mine: objective.micro_batches(mine, size))

    def _clip(self) -> float:
        """Clip the gradients; their norm before that."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.run.config.max_grad_norm)
        return float(whole(norm))

    def _evaluate(self, step: int) -> Row:
        self.run.model.eval()
        found = self._measure_held_out() if self.run.held_out else {}
        for observer in self.observers:
            found |= observer.measure(step, self.run.model)
        return found

    def _measure_held_out(self) -> Row:
        run = self.run
        items = run.held_out
        if run.follower is not None:
            items = run.follower.attach(run.model, items)
        dealt = self._dealt(items)
        columns = dealt.columns(
            [run.objective.measure(run.model, micro) for micro, _ in dealt.passes()]
        )
        if run.objective.looks_at_batch:
            columns = dict(run.objective.see_batch(dealt.items, columns))
        return {f"eval_{k}": v for k, v in run.objective.summarise(columns).items()}

    def _save(self, step: int, record: str) -> None:
        run = self.run
        save_training_state(
            *(run.context.output, step, run.model, self.optimizer, run.identity),
            self._remembered(record),
        )
        for observer in self.observers:
            observer.saved(step)


def _followed(follower: Follower[Any] | None) -> Row:
    """What a changing reference has cost so far; nothing where there is none."""
    if follower is None:
        return {}
    return {
        "reference_updates": follower.updates,
        "reference_tokens": follower.tokens_scored,
    }


def _reporters(run: TrainingRun[Any]) -> list[Observer]:
    if not current_world().is_main:
        return []
    return open_reporters(run.context, run.config.model_dump(mode="json"))


def _training_mode(model: PreTrainedModel) -> None:
    """Train without dropout, which would blur log-probabilities; only LoRA's own stays in force."""
    model.eval()
    for name, module in model.named_modules():
        if name.endswith("lora_dropout"):
            module.train()


def _refuse_not_finite(step: int, norm: float, losses: Tensor, keys: Sequence[str]) -> None:
    if losses.isfinite().all() and norm == norm and abs(norm) != float("inf"):
        return
    bad = [key for key, good in zip(keys, losses.isfinite().tolist(), strict=True) if not good]
    what = "loss" if bad else "gradient"
    shown = ", ".join((bad or keys)[:8])
    raise BackendError(
        f"step {step}: the {what} is not finite (items {shown}); the last checkpoint is intact; "
        "lower learning_rate, or set dtype to float32"
    )


@contextmanager
def _memory_errors(step: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise BackendError(
                f"step {step}: out of memory; lower micro_batch_size or tokens_per_micro_batch "
                "(then max_length), set max_activation_gb or gradient_checkpointing, or set dtype "
                "to bfloat16"
            ) from error
        raise


def _peak_memory(device: torch.device) -> int:
    """Peak bytes: of the GPU where the model is on one, else of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
