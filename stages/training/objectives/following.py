"""A reference policy that follows the trained one (TR-DPO)."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from schemas.errors import ConfigError
from stages.training.distributed.sharding import trainable_parameters
from stages.training.distributed.world import current_world
from stages.training.engines.choose import Engine
from stages.training.losses.config import FollowsPolicy
from stages.training.objectives.preference import PairExample, pair_logps


class FollowingReference:
    """Every so many steps the reference's weights move towards the policy's.

    Gorbatovski et al. 2024 (TR-DPO, arXiv:2404.09656), soft and hard updates. Of the reference only
    what is trained is kept, and changes places with the policy's while pairs are scored; until the
    first update what was scored beforehand holds.
    """

    def __init__(
        self, settings: FollowsPolicy, model: PreTrainedModel, engine: Engine, size: int
    ) -> None:
        """`size`: pairs of a forward pass at most. Raises ConfigError on several ranks."""
        if current_world().size > 1:
            raise ConfigError("train.follow: a reference that follows is kept by one rank alone")
        self._settings, self._engine, self._size = settings, engine, size
        self.tensors: dict[str, Tensor] = {
            name: weight.detach().clone() for name, weight in trainable_parameters(model).items()
        }
        self.updates = 0
        self.tokens_scored = 0

    def attach(self, model: PreTrainedModel, pairs: Sequence[PairExample]) -> Sequence[PairExample]:
        """The pairs with what the reference says of them now."""
        if not self.updates:
            return pairs
        found: dict[str, tuple[float, float]] = {}
        self._change_places(model)
        try:
            for micro in self._engine.micro_batches(pairs, self._size):
                both = zip(
                    *(t.tolist() for t in pair_logps(model, self._engine, micro)), strict=True
                )
                found |= dict(zip([pair.key for pair in micro], both, strict=True))
        finally:
            self._change_places(model)
        self.tokens_scored += sum(len(p.prompt_ids) + sum(map(len, p.branches)) for p in pairs)
        return [
            replace(p, reference_chosen=found[p.key][0], reference_rejected=found[p.key][1])
            for p in pairs
        ]

    @torch.no_grad()
    def after_step(self, step: int, model: PreTrainedModel) -> None:
        """Follow the policy where the step is one of those."""
        if step % self._settings.every:
            return
        for name, weight in trainable_parameters(model).items():
            self.tensors[name].lerp_(weight, self._settings.mix)
        self.updates += 1

    def restore(self, updates: int, tensors: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self.updates = updates
        for name, tensor in tensors.items():
            self.tensors[name].copy_(tensor)

    @torch.no_grad()
    def _change_places(self, model: PreTrainedModel) -> None:
        for name, weight in trainable_parameters(model).items():
            weight.data, self.tensors[name] = self.tensors[name], weight.data
