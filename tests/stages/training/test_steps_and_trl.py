"""Twenty training steps give the losses that TRL's DPOTrainer gives on the same pairs."""

import json
import random
import warnings
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from schemas.stage import SilentProgress, StageContext
from stages.training.config import TrainingConfig
from stages.training.engines.choose import PackedEngine, PaddedEngine, open_engine
from stages.training.loop import TrainingRun, train
from stages.training.losses.config import SigmoidLoss
from stages.training.objectives.preference import PairExample, PreferenceObjective, pair_logps
from stages.training.schedule import StepPlan
from tests.fixtures.tiny_models import tiny_llama

pytestmark = pytest.mark.trl

STEPS, BATCH, RATE, END = 20, 4, 3e-3, 2


@pytest.fixture(scope="module")
def trl() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.trainer.dpo_config import DPOConfig
        from trl.trainer.dpo_trainer import DPOTrainer
    return DPOConfig, DPOTrainer


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("trl"), hidden_size=32, layers=2, spread=0.2)


def random_pairs() -> list[PairExample]:
    numbers = random.Random(4)

    def tokens(most: int) -> list[int]:
        return [numbers.randrange(4, 260) for _ in range(numbers.randint(1, most))]

    return [
        PairExample(f"{i}", tokens(20), [*tokens(12), END], [*tokens(12), END])
        for i in range(STEPS * BATCH)
    ]


def our_losses(model: Any, pairs: list[PairExample], config: TrainingConfig, out: Path) -> Any:
    chosen, rejected = pair_logps(model, PaddedEngine(), pairs)
    known = zip(pairs, chosen.tolist(), rejected.tolist(), strict=True)
    pairs = [replace(p, reference_chosen=c, reference_rejected=r) for p, c, r in known]
    engine = open_engine(model, config, SilentProgress())
    assert isinstance(engine, PackedEngine)
    objective = PreferenceObjective(SigmoidLoss(beta=0.1), engine)
    rows = train(TrainingRun(model, objective, pairs, [], config, StageContext({}, out), "dpo"))
    return [row["loss"] for row in rows]


def trl_losses(trl: Any, model: Any, pairs: list[PairExample], out: Path) -> list[float]:
    """TRL in the order that the pairs are given in, on the very same tokens."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    config_type, trainer_type = trl

    class InOrder(trainer_type):  # type: ignore[misc, valid-type]
        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    rows = [
        {"prompt_ids": p.prompt_ids, "chosen_ids": p.chosen_ids, "rejected_ids": p.rejected_ids}
        for p in pairs
    ]
    settings = config_type(
        output_dir=str(out),
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        learning_rate=RATE,
        lr_scheduler_type="linear",
        beta=0.1,
        max_length=None,
        gradient_checkpointing=False,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    trainer = InOrder(
        model=model,
        ref_model=deepcopy(model),
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(model.name_or_path),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def test_twenty_steps_give_the_losses_of_trl(trl: Any, model_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    def load() -> Any:
        return AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()

    config = TrainingConfig(learning_rate=RATE, batch_size=BATCH, save_every=None)
    pairs = random_pairs()
    (tmp_path / "ours").mkdir()
    ours = our_losses(load(), pairs, config, tmp_path / "ours")
    plan = StepPlan(len(pairs), config)
    order = [i for step in range(1, STEPS + 1) for i in plan.items_at(step)]
    theirs = trl_losses(trl, load(), [pairs[i] for i in order], tmp_path / "trl")
    assert len(ours) == len(theirs) == STEPS
    assert ours == pytest.approx(theirs, abs=1e-3), json.dumps([ours, theirs])
    assert ours[-1] != pytest.approx(ours[0], abs=0.05)  # it was no standing still
