"""What goes on from step to step: a reference that follows, a mean of all steps, both resumed."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from schemas.errors import ConfigError
from schemas.stage import StageContext
from stages.training.config import TrainingConfig
from stages.training.distributed.world import World
from stages.training.engines.choose import PackedEngine
from stages.training.loop import TrainingRun, train
from stages.training.losses.config import BcoLoss, FollowsPolicy, PairLoss, SigmoidLoss
from stages.training.monitoring.metrics import PERFORMANCE, Row
from stages.training.objectives import following
from stages.training.objectives.following import FollowingReference
from stages.training.objectives.preference import PairExample, PreferenceObjective, pair_logps

NewModel = Callable[[], Any]


class Interrupted(BaseException):
    """A stand-in for whatever kills a process."""


class Dying(PreferenceObjective):
    """Dies at the call of that number."""

    dies_at = -1
    calls = 0

    def accumulate(self, *arguments: Any) -> Any:
        if self.calls == self.dies_at:
            raise Interrupted
        self.calls += 1
        return super().accumulate(*arguments)


def scored(model: Any, pairs: list[PairExample]) -> list[PairExample]:
    chosen, rejected = pair_logps(model, PackedEngine(), pairs)
    return [
        replace(p, reference_chosen=a, reference_rejected=b)
        for p, a, b in zip(pairs, chosen.tolist(), rejected.tolist(), strict=True)
    ]


def run_of(
    model: Any,
    pairs: list[PairExample],
    folder: Path,
    follow: FollowsPolicy | None,
    loss: PairLoss,
    dies_at: int = -1,
) -> TrainingRun[PairExample]:
    folder.mkdir(exist_ok=True)
    config = TrainingConfig(
        learning_rate=3e-3, batch_size=4, max_steps=6, save_every=1, lr_schedule="constant"
    )
    engine = PackedEngine()
    objective = Dying(loss, engine)
    objective.dies_at = dies_at
    follower = FollowingReference(follow, model, engine, 4) if follow else None
    context = StageContext({}, folder)
    return TrainingRun(
        model, objective, pairs[:8], pairs[8:10], config, context, "train", follower=follower
    )


def compared(rows: list[Row]) -> list[Row]:
    """But for times, and for what this process has scored."""
    left_out = {*PERFORMANCE, "reference_tokens"}
    return [{k: v for k, v in row.items() if k not in left_out} for row in rows]


def test_a_reference_that_is_the_policy_of_the_last_step(
    new_model: NewModel, pairs: list[PairExample], tmp_path: Path
) -> None:
    """Then every step begins at ln 2, and so does what is held out."""
    model = new_model()
    follow = FollowsPolicy(every=1, mix=1.0)
    rows = train(run_of(model, scored(model, pairs[:10]), tmp_path / "run", follow, SigmoidLoss()))
    for row in rows[1:]:
        assert row["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[-1]["eval_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert [row["reference_updates"] for row in rows[1:]] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["reference_tokens"] > rows[2]["reference_tokens"] > 0


def test_a_reference_moves_by_its_share(new_model: NewModel, pairs: list[PairExample]) -> None:
    model = new_model()
    follower = FollowingReference(FollowsPolicy(every=2, mix=0.25), model, PackedEngine(), 4)
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    given = scored(model, pairs[:4])
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.01)
    follower.after_step(1, model)
    assert follower.attach(model, given) is given  # nothing has moved yet
    follower.after_step(2, model)
    between = new_model()
    with torch.no_grad():
        for name, weight in between.named_parameters():
            weight.copy_(start[name] + 0.25 * 0.01)
            torch.testing.assert_close(follower.tensors[name], weight.detach())
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    found = follower.attach(model, given)
    for pair, wanted in zip(found, scored(between, pairs[:4]), strict=True):
        assert pair.reference_chosen == pytest.approx(wanted.reference_chosen, abs=1e-4)
        assert pair.reference_rejected == pytest.approx(wanted.reference_rejected, abs=1e-4)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


@pytest.mark.parametrize(
    ("follow", "loss"),
    [(FollowsPolicy(every=2, mix=0.5), SigmoidLoss()), (None, BcoLoss(shift="running"))],
    ids=["reference", "mean"],
)
def test_a_killed_training_goes_on_with_what_it_remembered(
    new_model: NewModel,
    pairs: list[PairExample],
    tmp_path: Path,
    follow: FollowsPolicy | None,
    loss: PairLoss,
) -> None:
    given = scored(new_model(), pairs[:10])
    whole = train(run_of(new_model(), given, tmp_path / "whole", follow, loss))
    with pytest.raises(Interrupted):
        train(run_of(new_model(), given, tmp_path / "cut", follow, loss, dies_at=4))
    rest = train(run_of(new_model(), given, tmp_path / "cut", follow, loss))
    assert compared(rest) == compared(whole)


def test_several_ranks_are_refused(new_model: NewModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "current_world", lambda: World(0, 2))
    with pytest.raises(ConfigError, match="one rank alone"):
        FollowingReference(FollowsPolicy(), new_model(), PackedEngine(), 4)
