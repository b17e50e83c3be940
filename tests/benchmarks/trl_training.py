"""DPO by TRL on given pairs, in the order given, timed from one step to the end."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.training_pairs import PAIRS_PER_STEP

Seconds = Callable[[], float]


def train_trl(
    model: Any,
    tokenizer: Any,
    pairs: list[dict[str, Any]],
    settings: Mapping[str, Any],
    folder: Path,
    *,
    clocks: tuple[Seconds, ...] = (time.process_time, time.perf_counter),
    untimed_steps: int = 0,
    reference: Any = None,
    peft_config: Any = None,
) -> list[float]:
    """Seconds on each clock of the steps of one epoch, but for the first `untimed_steps`.

    What TRL does before its first step (tokenizing, precomputing the reference) is not counted.
    Without `reference` TRL loads one, where its settings want one, from where the model came from.
    """
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    marks: list[list[float]] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == untimed_steps:
                marks.append([clock() for clock in clocks])

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            marks.append([clock() for clock in clocks])

    class InOrder(DPOTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    trainer = InOrder(
        model=model,
        ref_model=reference,
        args=DPOConfig(
            output_dir=str(folder),
            num_train_epochs=1,
            learning_rate=1e-5,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            **{"per_device_train_batch_size": PAIRS_PER_STEP, **settings},
        ),
        train_dataset=Dataset.from_list([pair["row"] for pair in pairs]),
        processing_class=tokenizer,
        callbacks=[Clock()],
        peft_config=peft_config,
    )
    trainer.train()
    return [end - begin for begin, end in zip(marks[0], marks[-1], strict=True)]


def force_compact_head() -> None:
    """Let TRL's LM head read completion positions only on a CPU too.

    On CUDA it does; no setting gives that on a CPU.
    """
    import trl.trainer.utils as trl_internals

    setattr(trl_internals, "_use_triton", lambda device: True)  # noqa: B010
