"""Which items each optimizer step sees, and at which learning rate: functions of the step alone.

Nothing here has state, so a resumed run cannot drift from an undisturbed one.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from schemas.ids import seed_from
from stages.training.config import TrainingConfig, steps_per_epoch, total_steps


@dataclass(frozen=True)
class StepPlan:
    """Steps count from 1. Every epoch is its own shuffle; its last batch may be smaller."""

    num_items: int
    config: TrainingConfig

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps that see every item once."""
        return steps_per_epoch(self.config, self.num_items)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return total_steps(self.config, self.num_items)

    def items_at(self, step: int) -> list[int]:
        """Indices of the items that step `step` trains on."""
        epoch, batch = divmod(step - 1, self.steps_per_epoch)
        order = _shuffle(self.num_items, seed_from(self.config.seed, "epoch", epoch))
        start = batch * self.config.batch_size
        return list(order[start : start + self.config.batch_size])

    def items_used(self) -> list[int]:
        """Indices of all items that any step trains on, in order: few where max_steps is small."""
        if self.total_steps >= self.steps_per_epoch:
            return list(range(self.num_items))
        steps = range(1, self.total_steps + 1)
        return sorted({index for step in steps for index in self.items_at(step)})

    def epoch_at(self, step: int) -> float:
        """Epochs behind us after `step` steps."""
        return step / self.steps_per_epoch

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of step `step`.

        Rises in equal parts over the warm-up steps and is never zero; then as transformers'
        schedules do: the first step after warm-up has the peak, the last one almost nothing.
        """
        config, done = self.config, step - 1
        warmup = math.ceil(config.warmup_ratio * self.total_steps)
        if done < warmup:
            return config.learning_rate * (done + 1) / (warmup + 1)
        progress = (done - warmup) / max(1, self.total_steps - warmup)
        decay = {
            "constant": 1.0,
            "linear": 1.0 - progress,
            "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
        }
        least = config.min_lr_ratio
        return config.learning_rate * (least + (1.0 - least) * decay[config.lr_schedule])

    def evaluates_at(self, step: int) -> bool:
        """Whether held-out items are measured after `step` steps: first, every n, and last."""
        return self._is_due(step, self.config.eval_every) or step in (0, self.total_steps)

    def saves_at(self, step: int) -> bool:
        """Whether a checkpoint is written after `step` steps: every n, and last."""
        every = self.config.save_every
        return self._is_due(step, every) or (every is not None and step == self.total_steps)

    @staticmethod
    def _is_due(step: int, every: int | None) -> bool:
        return every is not None and step > 0 and step % every == 0


@lru_cache(maxsize=2)
def _shuffle(count: int, seed: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).permutation(count).tolist())
