"""Losses that look at a whole step, or at single tokens: the same gradients in whatever passes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from stages.training.engines.choose import Engine, PackedEngine, PaddedEngine
from stages.training.losses.config import (
    AotLoss,
    BcoLoss,
    CombinedLoss,
    KtoLoss,
    PairLoss,
    SigmoidLoss,
    WeightedLoss,
)
from stages.training.losses.pairwise import PairLogps, pair_loss
from stages.training.objectives.preference import PairExample, PreferenceObjective

NewModel = Callable[[], Any]


def with_reference(pairs: list[PairExample]) -> list[PairExample]:
    return [
        replace(p, reference_chosen=-20.0 - i, reference_rejected=-18.0 + (i % 3))
        for i, p in enumerate(pairs[:8])
    ]


def gradients_of(
    model: Any, loss: PairLoss, pairs: list[PairExample], engine: Engine, size: int
) -> tuple[dict[str, torch.Tensor], float]:
    objective = PreferenceObjective(loss, engine)
    passes = objective.micro_batches(pairs, size)
    if objective.looks_at_batch:
        measured = [objective.measure(model, micro) for micro in passes]
        columns = {n: torch.cat([m[n] for m in measured]) for n in measured[0]}
        objective.see_batch([pair for micro in passes for pair in micro], columns)
    said = [objective.accumulate(model, micro, 1 / len(pairs)) for micro in passes]
    total = float(torch.cat([columns["loss"] for columns in said]).mean())
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}, total


def plain_gradients(
    model: Any, loss: PairLoss, pairs: list[PairExample]
) -> tuple[dict[str, torch.Tensor], float]:
    """Autograd through the loss of all pairs at once, scored one sequence at a time."""

    def scores(prompt: Any, ids: Any) -> tuple[Any, Any]:
        tokens = torch.tensor([[*prompt, *ids]])
        logps = model(tokens).logits.log_softmax(-1)[0, len(prompt) - 1 : -1].double()
        chosen = logps.gather(1, torch.tensor(ids)[:, None]).squeeze(1)
        return chosen, (2 * logps.detach()).logsumexp(-1).sum()

    columns: list[list[Any]] = []
    for pair in pairs:
        shared = min(map(len, pair.branches))
        row = []
        for ids in pair.branches:
            logps, collision = scores(pair.prompt_ids, ids)
            weighed = logps[:shared].sum() + pair.tail_weight * logps[shared:].sum()
            row.append((weighed, collision))
        columns.append([row[0][0], row[1][0], row[0][1], row[1][1]])
    chosen, rejected, *collisions = (torch.stack(list(c)) for c in zip(*columns, strict=True))
    constant = [
        torch.tensor(values, dtype=torch.float64)
        for values in zip(
            *[
                (p.reference_chosen, p.reference_rejected, len(p.chosen_ids), len(p.rejected_ids))
                for p in pairs
            ],
            strict=True,
        )
    ]
    good = torch.tensor([bool(p.desirable) for p in pairs])
    others: list[Any] = [*constant, *collisions]
    logps = replace(PairLogps(chosen, rejected, *others), desirable=good)
    losses = pair_loss(loss, logps)
    losses.mean().backward()  # type: ignore[no-untyped-call]
    return (
        {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None},
        float(losses.detach().mean()),
    )


LOSSES = {
    "aot": AotLoss(beta=0.2),
    "aot_unpaired": AotLoss(beta=0.2, paired=False),
    "bco": BcoLoss(beta=0.2),
    "wpo": SigmoidLoss(beta=0.2, policy_weights=True),
    "combined": CombinedLoss(
        losses=(WeightedLoss(loss=AotLoss(beta=0.2)), WeightedLoss(weight=0.5, loss=SigmoidLoss()))
    ),
    "ld": SigmoidLoss(beta=0.2, tail_weight=0.3),
    "kto": KtoLoss(beta=0.2, undesirable_weight=1.5),
}


@pytest.mark.parametrize("name", LOSSES)
def test_passes_of_any_size_and_kind_give_the_gradient_of_the_whole(
    new_model: NewModel, pairs: list[PairExample], name: str
) -> None:
    loss = LOSSES[name]
    given = [replace(p, tail_weight=loss.tail_weight) for p in with_reference(pairs)]
    if isinstance(loss, KtoLoss):
        given = [replace(p, desirable=i % 3 > 0) for i, p in enumerate(given)]
    expected, value = plain_gradients(new_model(), loss, given)
    engines: list[Engine] = [PaddedEngine(), PackedEngine()]
    for engine in engines:
        for size in (1, 8):
            found, said = gradients_of(new_model(), loss, given, engine, size)
            assert said == pytest.approx(value, rel=1e-5)
            for parameter, gradient in expected.items():
                torch.testing.assert_close(found[parameter], gradient, rtol=1e-3, atol=1e-5)


def test_a_running_threshold_is_the_mean_of_all_rewards_so_far(
    new_model: NewModel, pairs: list[PairExample]
) -> None:
    """By hand over two steps; measuring held-out pairs in between leaves it alone."""
    objective = PreferenceObjective(BcoLoss(beta=0.2, shift="running"), PackedEngine())
    model, given = new_model(), with_reference(pairs)
    seen: list[float] = []
    for step, training in ((given[:3], True), (given[3:6], False), (given[6:], True)):
        columns = dict(objective.measure(model, step))
        gaps = torch.cat([columns["chosen_log_ratio"], columns["rejected_log_ratio"]])
        if training:
            seen += gaps.tolist()
        losses = objective.see_batch(step, columns, training=training)["loss"]
        mean = 0.2 * sum(seen) / len(seen)
        chosen, rejected = 0.2 * columns["chosen_log_ratio"], 0.2 * columns["rejected_log_ratio"]
        expected = -torch.nn.functional.logsigmoid(chosen - mean)
        expected = expected - torch.nn.functional.logsigmoid(mean - rejected)
        torch.testing.assert_close(losses, expected)
    assert objective.remembered["log_ratios"] == len(seen)
