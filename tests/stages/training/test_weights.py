"""Weights of pairs: arithmetic by hand, and equal weights are no weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schemas.stage import StageContext
from stages.training.config import TrainingConfig
from stages.training.data.config import MarginWeights, PairWeights, StrengthWeights
from stages.training.data.pair_weights import effective_pairs, normalised
from stages.training.loop import TrainingRun, train
from stages.training.losses.config import SigmoidLoss
from stages.training.objectives.preference import PairExample, PreferenceObjective


def test_weights_by_hand() -> None:
    values = np.array([1.0, 2.0, 3.0])
    assert normalised(values, 1.0).tolist() == pytest.approx([0.5, 1.0, 1.5])
    # Squares 1, 4, 9 have the mean 14 / 3.
    assert normalised(values, 2.0).tolist() == pytest.approx([3 / 14, 12 / 14, 27 / 14])
    assert normalised(np.array([0.3, 0.3]), 1.7).tolist() == [1.0, 1.0]


def test_effective_pairs_by_hand() -> None:
    assert effective_pairs(np.array([2.0, 2.0, 2.0, 2.0])) == 4
    assert effective_pairs(np.array([1.0, 1.0, 1e-9, 1e-9])) == pytest.approx(2)
    assert effective_pairs(np.array([0.5, 1.0, 1.5])) == pytest.approx(9 / 3.5)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1), st.floats(0.1, 8))
def test_mean_is_one_and_effective_pairs_are_at_most_all(values: list[float], power: float) -> None:
    weights = normalised(np.array(values), power)
    assert weights.mean() == pytest.approx(1)
    assert (weights >= 0).all()
    assert 1 - 1e-9 <= effective_pairs(weights) <= len(values) + 1e-9


@pytest.fixture
def weighed(pairs: list[PairExample]) -> list[PairExample]:
    return [replace(pair, weight=w) for pair, w in zip(pairs[:3], (0.5, 1.0, 1.5), strict=True)]


def step(model: Any, items: list[PairExample]) -> tuple[dict[str, float], list[torch.Tensor]]:
    """Metrics and gradients of one step over `items`."""
    objective = PreferenceObjective(SigmoidLoss(beta=0.3))
    columns = objective.accumulate(model, items, 1 / objective.denominator(items))
    return objective.summarise(columns), [p.grad.clone() for p in model.parameters()]


def test_the_loss_of_a_step_is_the_weighted_mean(
    new_model: Callable[[], Any], weighed: list[PairExample]
) -> None:
    metrics, gradients = step(new_model(), weighed)
    alone = [step(new_model(), [replace(pair, weight=None)]) for pair in weighed]
    losses = [metrics["loss"] for metrics, _ in alone]
    expected = (0.5 * losses[0] + 1.0 * losses[1] + 1.5 * losses[2]) / 3
    assert metrics["loss"] == pytest.approx(expected, abs=1e-6)
    assert metrics["effective_pairs"] == pytest.approx(9 / 3.5)
    rewards = [metrics["rewards/chosen"] for metrics, _ in alone]
    assert metrics["rewards/chosen"] == pytest.approx(sum(rewards) / 3, abs=1e-6)  # unweighted
    for number, gradient in enumerate(gradients):
        parts = [w / 3 * a[1][number] for w, a in zip((0.5, 1.0, 1.5), alone, strict=True)]
        assert torch.allclose(gradient, sum(parts, torch.zeros(())), atol=1e-5)


def test_equal_weights_are_no_weights(
    new_model: Callable[[], Any], weighed: list[PairExample]
) -> None:
    equal, ours = step(new_model(), [replace(pair, weight=1.0) for pair in weighed])
    plain, theirs = step(new_model(), [replace(pair, weight=None) for pair in weighed])
    assert equal.pop("effective_pairs") == pytest.approx(3)
    assert equal == plain
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("size", [1, 3])
def test_micro_batches_of_any_size_give_the_same_training(
    new_model: Callable[[], Any], pairs: list[PairExample], tmp_path: Path, size: int
) -> None:
    items = [replace(pair, weight=0.5 + i % 2) for i, pair in enumerate(pairs[:16])]
    curves, models = [], []
    for micro_batch_size in (8, size):
        folder = tmp_path / str(micro_batch_size)
        folder.mkdir()
        config = TrainingConfig(
            learning_rate=1e-2,
            lr_schedule="cosine",
            warmup_ratio=0.25,
            batch_size=8,
            micro_batch_size=micro_batch_size,
            num_epochs=4,
        )
        model, objective = new_model(), PreferenceObjective(SigmoidLoss(rpo_alpha=0.1))
        run = TrainingRun(model, objective, items, [], config, StageContext({}, folder), "train")
        rows = train(run)
        curves.append([[row[k] for k in ("loss", "grad_norm", "effective_pairs")] for row in rows])
        models.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert len(curves[0]) == 8
    for one, other in zip(*curves, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    assert torch.allclose(models[0], models[1], atol=1e-4)


def test_settings() -> None:
    adapter: TypeAdapter[PairWeights] = TypeAdapter(PairWeights)
    assert adapter.validate_python({"kind": "margin", "power": 2}) == MarginWeights(power=2)
    assert adapter.validate_python({"kind": "strength"}) == StrengthWeights()
    with pytest.raises(ValidationError, match="'none', 'margin', 'strength'"):
        adapter.validate_python({"kind": "votes"})
    with pytest.raises(ValidationError, match="power"):
        adapter.validate_python({"kind": "none", "power": 2})
