"""judge trains a Bradley-Terry reward model: its loss, what it learns, and what it refuses."""

import json
import math
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from evals.judges import open_judge
from evals.models.checkpoints import ModelSource
from evals.models.classifiers import load_reward_model
from schemas.errors import ConfigError, DataError
from schemas.labels import LabelProbabilities
from schemas.parquet import read_rows
from schemas.stage import Runtime
from schemas.tables import REJECTS
from stages.judge import STAGE
from stages.judge.reward_training import BradleyTerry, RewardPair, bradley_terry
from tests.fixtures.comparisons import labelled
from tests.fixtures.tiny_models import tiny_llama, tiny_reward_model
from tests.stages.test_judge import FOODS, TEST, TRAIN, config_of, context_of, ingested

TRAINING = {"learning_rate": 1e-3, "batch_size": 6, "max_steps": 25, "eval_every": 25}


def config(model: Path, **changes: Any) -> Any:
    settings = {"judge": {"kind": "reward_model", "model": {"path": str(model)}}}
    return config_of(**(settings | {"training": TRAINING} | changes))


def test_the_loss_by_hand() -> None:
    rewards = (torch.tensor([1.0]), torch.tensor([-0.5]), torch.tensor([0.25]))
    expected = math.log(1 + math.exp(-(1.5 - 0.25))) + 0.1 * 0.5**2
    assert float(bradley_terry(*rewards, centring=0.1)) == pytest.approx(expected)


@pytest.mark.trl
def test_the_loss_is_trls() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.trainer.reward_trainer import RewardTrainer
    generator = torch.Generator().manual_seed(0)
    both, margin = torch.randn(6, 1, generator=generator), torch.rand(3, generator=generator)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=False),
        args=SimpleNamespace(center_rewards_coefficient=0.05),
        center_rewards_coefficient=0.05,
        accelerator=SimpleNamespace(gather_for_metrics=lambda t: t, gather=lambda t: t),
        _metrics={"eval": _Any(), "train": _Any()},
        _total_train_tokens=0,
    )
    inputs = {"input_ids": torch.zeros(6, 2), "attention_mask": torch.ones(6, 2), "margin": margin}
    theirs = RewardTrainer.compute_loss(trainer, lambda **_: SimpleNamespace(logits=both), inputs)
    chosen, rejected = both[:, 0].chunk(2)
    ours = bradley_terry(chosen, rejected, margin, centring=0.05).mean()
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)


class _Any(dict[str, list[float]]):
    def __missing__(self, key: str) -> list[float]:
        return self.setdefault(key, [])


def test_micro_batches_of_any_size_give_the_same_gradient(tmp_path: Path) -> None:
    folder = tiny_reward_model(tmp_path / "start")
    pairs = [
        RewardPair(str(i), list(range(5, 9 + i)), list(range(20, 31 - i)), 0.1) for i in range(5)
    ]
    found = []
    for size in (1, 5):
        model = load_reward_model(ModelSource(path=str(folder)), torch.device("cpu"))
        objective = BradleyTerry(0.1, None)
        for micro in objective.micro_batches(pairs, size):
            objective.accumulate(model, micro, 1 / 5)
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-4, atol=1e-6)


def test_a_language_model_becomes_a_reward_model_that_agrees_with_people(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    start = tiny_llama(tmp_path / "start", hidden_size=32, layers=1, spread=0.2)
    tie = labelled("what does q like?", "pizza", "soup", "Tie")
    context = context_of(tmp_path, ingest=ingested(tmp_path / "ingest", [*TRAIN, tie], TEST))
    counts = STAGE.run(config(start, rewards={"centring": 0.01, "margin": 0.1}), context)
    assert counts["train_examples"] == len(TRAIN)
    assert counts["rejected_tie"] == 1
    assert [row["reason"] for row in read_rows(context.output / "rejects.parquet", REJECTS)] == [
        "tie"
    ]
    card = json.loads((context.output / "card.json").read_text())
    assert (card["judge"], card["accuracy"]["value"]) == ("reward_model", 1)
    judge = open_judge(context.output, Runtime(device="cpu"))
    asked = labelled("what does y like?", "pizza", FOODS[0], "A").comparison
    [verdict] = judge.judge([asked])
    assert isinstance(verdict, LabelProbabilities)
    assert verdict.p_a > 0.5
    lines = (context.output / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert rows[-1]["eval_loss"] < rows[0]["eval_loss"]


@pytest.mark.parametrize("changes", [{"lora": {"rank": 2}}, {"weights": "bfloat16"}])
def test_what_is_not_trained_here_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    start = tiny_reward_model(tmp_path / "start")
    context = context_of(tmp_path, ingest=ingested(tmp_path / "ingest", TRAIN, TEST))
    with pytest.raises(ConfigError, match="trained whole, in float32"):
        STAGE.run(config(start, training=TRAINING | changes), context)


def test_ties_alone_are_nothing_to_train_on(tmp_path: Path) -> None:
    start = tiny_reward_model(tmp_path / "start")
    ties = [labelled("what does q like?", "pizza", food, "Tie") for food in FOODS]
    context = context_of(tmp_path, ingest=ingested(tmp_path / "ingest", ties, TEST))
    with pytest.raises(DataError, match="comparisons without ties"):
        STAGE.run(config(start), context)
