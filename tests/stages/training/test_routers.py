"""Mixtures of experts: the routers' own term is trained on, logged apart, and part of the loss."""

import math
from typing import Any

import pytest
import torch

from stages.training.engines.choose import Engine, PackedEngine, PaddedEngine
from stages.training.engines.routers import watched_routers
from stages.training.losses.config import SigmoidLoss
from stages.training.objectives.preference import PairExample, PreferenceObjective
from stages.training.objectives.supervised import CompletionLikelihood, TokenExample
from tests.fixtures.architectures import small_model

PAIR = PairExample("a", [5, 9, 3, 7], [8, 6, 4, 2], [11, 2, 7], -9.0, -8.0)
EXAMPLE = TokenExample("a", [5, 9, 3], [8, 6, 4, 2])


def mixture(coefficient: float) -> Any:
    return small_model("mixtral", router_aux_loss_coef=coefficient)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("engine", [PaddedEngine(), PackedEngine()])
def test_one_example_has_the_loss_and_gradients_of_transformers_itself(engine: Engine) -> None:
    """With labels, transformers adds coefficient times its load-balancing loss by itself."""
    tokens = torch.tensor([[*EXAMPLE.prompt_ids, *EXAMPLE.completion_ids]])
    labels = tokens.clone()
    labels[:, : len(EXAMPLE.prompt_ids)] = -100
    theirs = mixture(3.0)
    theirs.model.config.output_router_logits = True
    output = theirs(input_ids=tokens, labels=labels, output_router_logits=True)
    output.loss.backward()

    ours, objective = mixture(3.0), CompletionLikelihood(engine)
    columns = objective.accumulate(ours, [EXAMPLE], 1 / objective.denominator([EXAMPLE]))
    said = objective.summarise(columns)
    assert said["loss"] == pytest.approx(float(output.loss.detach()), rel=1e-5)
    assert said["router_aux_loss"] == pytest.approx(float(output.aux_loss.detach()), rel=1e-5)
    assert said["nll"] == pytest.approx(said["loss"] - 3 * said["router_aux_loss"], rel=1e-5)
    assert 1 <= said["router_max_load"] <= 4
    found = gradients(ours)
    for name, gradient in gradients(theirs).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("engine", [PaddedEngine(), PackedEngine()])
def test_the_preference_term_stands_apart(engine: Engine) -> None:
    objective = PreferenceObjective(SigmoidLoss(), engine)
    start = objective.measure(mixture(0.5), [PAIR])
    pair = PairExample(
        *("a", PAIR.prompt_ids, PAIR.chosen_ids, PAIR.rejected_ids),
        *(float(start["chosen"][0]), float(start["rejected"][0])),
    )
    said = objective.summarise(objective.measure(mixture(0.5), [pair]))
    assert said["preference_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert said["loss"] == pytest.approx(math.log(2) + 0.5 * said["router_aux_loss"], abs=1e-6)


def test_a_coefficient_of_zero_leaves_the_term_out() -> None:
    objective = PreferenceObjective(SigmoidLoss(), PackedEngine())
    said = objective.summarise(objective.measure(mixture(0.0), [PAIR]))
    assert "router_aux_loss" not in said
    with_term, without = mixture(10.0), mixture(0.0)
    for model in (with_term, without):
        objective.accumulate(model, [PAIR], 1.0)
    name = "model.layers.0.mlp.gate.weight"
    assert not torch.allclose(gradients(with_term)[name], gradients(without)[name])


def test_numbers_of_a_part_of_the_config_are_the_model_s() -> None:
    """DBRX has them in its `ffn_config`, under other names."""
    model = small_model("dbrx")
    with watched_routers(model) as routers:
        model(input_ids=torch.tensor([[5, 6, 7]]), use_cache=False)
    assert (routers.coefficient, routers.experts, routers.chosen) == (0.01, 4, 2)
    term = routers.term(torch.ones(1, 3))
    assert term is not None
    assert float(term.loss.detach()) >= 1
