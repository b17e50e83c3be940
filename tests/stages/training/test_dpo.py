"""The DPO objective, its metrics, the reference pass, the guard and LoRA."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from schemas.stage import SilentProgress, StageContext
from stages.training.checkpoints.adapters import add_lora, fold_adapter
from stages.training.config import LoraConfig, TrainingConfig
from stages.training.engines.choose import PaddedEngine
from stages.training.loop import TrainingRun, train
from stages.training.losses.config import SigmoidLoss
from stages.training.monitoring.config import GuardSettings
from stages.training.monitoring.guard import Guard
from stages.training.objectives.preference import PairExample, PreferenceObjective, pair_logps

NewModel = Callable[[], Any]


@pytest.fixture
def referenced(start_model: Any, pairs: list[PairExample]) -> list[PairExample]:
    """The pairs with the start model as the reference."""
    with torch.no_grad():
        chosen, rejected = pair_logps(start_model, PaddedEngine(), pairs)
    return [
        replace(pair, reference_chosen=c, reference_rejected=r)
        for pair, c, r in zip(pairs, chosen.tolist(), rejected.tolist(), strict=True)
    ]


def summary(objective: PreferenceObjective, **columns: list[float]) -> dict[str, float]:
    tensors = {name: torch.tensor(c, dtype=torch.float64) for name, c in columns.items()}
    return objective.summarise(tensors)


def test_metrics_by_hand() -> None:
    metrics = summary(
        PreferenceObjective(SigmoidLoss(beta=0.5)),
        loss=[1.0, 2.0, 3.0, 6.0],
        chosen=[-1.0, -2.0, -3.0, -4.0],
        rejected=[-5.0, -5.0, -5.0, -5.0],
        chosen_log_ratio=[2.0, 1.0, 0.0, -1.0],
        rejected_log_ratio=[0.0, 1.0, 0.0, 1.0],
        nll=[0.5, 0.5, 1.0, 2.0],
    )
    assert metrics == {
        "loss": 3.0,
        "rewards/chosen": 0.25,
        "rewards/rejected": 0.25,
        "rewards/margins": 0.0,
        "rewards/accuracies": 0.5,  # one win, two ties as halves, one loss
        "rewards/tie_rate": 0.5,
        "logps/chosen": -2.5,
        "logps/rejected": -5.0,
        "log_ratio_gap": 0.0,
        "nll_loss": 1.0,
    }


def test_a_gap_within_rounding_is_a_tie() -> None:
    zeros = [0.0] * 4
    metrics = summary(
        PreferenceObjective(SigmoidLoss()),
        loss=zeros,
        chosen=zeros,
        rejected=zeros,
        chosen_log_ratio=[9e-4, -9e-4, 2e-3, -2e-3],
        rejected_log_ratio=zeros,
        nll=zeros,
    )
    assert (metrics["rewards/accuracies"], metrics["rewards/tie_rate"]) == (0.5, 0.5)
    assert metrics["rewards/margins"] == 0


def test_training_starts_at_ln_2_and_margins_are_differences_of_rewards(
    new_model: NewModel, referenced: list[PairExample], config: TrainingConfig, tmp_path: Path
) -> None:
    for beta in (0.05, 0.5):
        folder = tmp_path / str(beta)
        folder.mkdir()
        run = TrainingRun(
            new_model(),
            PreferenceObjective(SigmoidLoss(beta=beta)),
            referenced[:16],
            referenced[16:],
            config,
            StageContext({}, folder),
            "train",
        )
        rows = train(run)
        assert rows[0]["eval_loss"] == pytest.approx(math.log(2), abs=1e-5)
        assert rows[1]["loss"] == pytest.approx(math.log(2), abs=1e-5)
        assert rows[-1]["loss"] < 0.6
        for row in rows[1:]:
            margin = row["rewards/chosen"] - row["rewards/rejected"]
            assert row["rewards/margins"] == pytest.approx(margin)
            assert row["log_ratio_gap"] == pytest.approx(margin / beta)
            assert row["num_tokens"] > 0


def test_gradient_equals_two_plain_forwards(
    new_model: NewModel, referenced: list[PairExample]
) -> None:
    model, naive, pairs = new_model(), new_model(), referenced[:5]
    objective = PreferenceObjective(SigmoidLoss(beta=0.3, rpo_alpha=0.2))
    objective.accumulate(model, pairs, 1 / len(pairs))
    total = torch.zeros(())
    for pair in pairs:
        sums = []
        for completion in (pair.chosen_ids, pair.rejected_ids):
            ids = [*pair.prompt_ids, *completion]
            table = naive(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            start = len(pair.prompt_ids)
            sums.append(sum(table[start - 1 + k, token] for k, token in enumerate(completion)))
        gap = (sums[0] - pair.reference_chosen) - (sums[1] - pair.reference_rejected)
        nll = -sums[0] / len(pair.chosen_ids)
        total = total + torch.log1p(torch.exp(-0.3 * gap)) + 0.2 * nll
    (total / len(pairs)).backward()  # type: ignore[no-untyped-call]
    for ours, theirs in zip(model.parameters(), naive.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-4)


def test_guard_speaks_once_when_chosen_falls_visibly() -> None:
    progress = SilentProgress()
    guard = Guard(GuardSettings(), 0.1, progress, held_out=True)
    for step, fall in enumerate([0.0, 0.9, 1.9, 2.1, 9.0]):
        row = {"step": step, "eval_rewards/chosen": -0.1 * fall, "eval_logps/chosen": -20 - fall}
        guard.begin([row])
        guard.begin([{"step": step, "rewards/chosen": -9.0, "logps/chosen": -99.0}])
    assert guard.first_step("chosen_fell") == 3  # a tenth of 20 nats
    assert len(progress.warnings) == 1
    assert "step 3" in progress.warnings[0]


def test_lora_trains_the_adapter_only_and_off_is_the_start(
    new_model: NewModel,
    start_model: Any,
    referenced: list[PairExample],
    config: TrainingConfig,
    context: StageContext,
) -> None:
    model = add_lora(new_model(), LoraConfig(rank=4, alpha=8), seed=0)
    run = TrainingRun(
        model,
        PreferenceObjective(SigmoidLoss()),
        referenced[:16],
        [],
        config,
        context,
        "train",
    )
    rows = train(run)
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[-1]["loss"] < rows[0]["loss"]
    with torch.no_grad():
        trained = pair_logps(model, PaddedEngine(), referenced)[0]
        with model.disable_adapter():
            switched_off = pair_logps(model, PaddedEngine(), referenced)[0]
        before = pair_logps(start_model, PaddedEngine(), referenced)[0]
        folded = pair_logps(fold_adapter(model), PaddedEngine(), referenced)[0]
    assert torch.equal(switched_off, before)
    assert not torch.allclose(trained, before, atol=1e-2)
    assert torch.allclose(folded, trained, atol=1e-4)
