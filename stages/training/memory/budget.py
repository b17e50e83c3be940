"""Passes that stay within `training.max_activation_gb`.

A pack has as many tokens as fit, up to what it has without a limit. An item that does not fit by
itself goes alone, and as many of the first layers as must be are run again in its backward. All
this changes how much is there at a time, not what is computed: losses and gradients are the same
up to rounding.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from evals.memory.shape import ModelShape
from schemas.errors import ConfigError
from stages.training.attention.places import ROUND_TOKENS
from stages.training.config import TrainingConfig
from stages.training.memory.passes import Pass, packs, pass_parts
from stages.training.memory.sizes import pack_budget

_GB = 1e9


@dataclass(frozen=True)
class PassBudget:
    """What a pass may take, and how it is kept to.

    Attributes:
        shape: of the model.
        training: its settings; `packing` is whether passes are packed.
        partly: single layers can be run again, and not only all of them or none.
        recomputable: layers can be run again at all.
    """

    shape: ModelShape
    training: TrainingConfig
    device: str
    partly: bool = True
    recomputable: bool = True

    def size(self, one: Pass) -> float:
        """Bytes that a pass takes, beside weights, gradients and the optimizer's states."""
        return sum(pass_parts(self.shape, self.training, self.device, one).values())

    def fitted(self, one: Pass) -> Pass:
        """The same pass with no more layers run again than must be.

        Where it does not fit at all, it is the one that takes least.
        """
        filled = -(-one.tokens // ROUND_TOKENS) * ROUND_TOKENS if self._packs else one.tokens
        ways = [replace(one, tokens=filled, again=again) for again in self._again()]
        return next(filter(self.fits, ways), None) or min(ways, key=self.size)

    def fits(self, one: Pass) -> bool:
        """Whether a pass is within the limit."""
        limit = self.training.max_activation_gb
        return limit is None or self.size(one) <= limit * _GB

    def most_tokens(self) -> int:
        """Tokens of a pack of several items."""
        most = pack_budget(self.training, self.device)
        rounds = range(most, ROUND_TOKENS, -ROUND_TOKENS)
        fitting = (n for n in rounds if self.fits(Pass(n, n, again=self._again()[0], items=n)))
        return next(fitting, min(most, ROUND_TOKENS))

    def most_items(self, alone: Pass, size: int) -> int:
        """Padded items as large as that which go together: at most `size`, at least one."""
        plain = replace(alone, again=self._again()[0])
        return next((n for n in range(size, 1, -1) if self.fits(plain.times(n))), 1)

    def largest(self, alone: Pass, size: int) -> Iterator[Pass]:
        """The largest passes, given that of the largest item, where `size` may go together."""
        if self._packs:
            shared = min(self.most_tokens(), size * alone.tokens)
            yield self.fitted(Pass(shared, shared, items=size))
        else:
            yield self.fitted(alone.times(self.most_items(alone, size)))
        yield self.fitted(alone)

    def refusal(self, alone: Pass) -> str | None:
        """Why an item cannot be trained on, and the least that it takes; None where it can."""
        best = self.fitted(alone)
        if self.fits(best):
            return None
        least = math.ceil(self.size(best) / _GB * 1000) / 1000
        how = "with all layers run again" if best.again else "its layers cannot be run again"
        return (
            f"training.max_activation_gb: {self.training.max_activation_gb:g} GB do not hold an "
            f"item of {alone.tokens:,} tokens, which takes {least:g} GB {how}; raise it to "
            f"{least:g}, or lower training.max_length"
        )

    def refuse_what_does_not_fit(self, items: Iterable[Pass]) -> None:
        """Given the pass of every item alone.

        Raises:
            ConfigError: the longest cannot be made to fit.
        """
        said = self.refusal(max(items, key=lambda one: one.tokens, default=Pass(0, 0)))
        if said is not None:
            raise ConfigError(said)

    @property
    def _packs(self) -> bool:
        return packs(self.shape, self.training)

    def _again(self) -> list[int]:
        """How many layers may be run again, the fewest first."""
        layers = self.shape.layers
        if self.training.gradient_checkpointing:
            return [layers]
        if self.training.max_activation_gb is None or not self.recomputable:
            return [0]
        return list(range(layers + 1)) if self.partly else [0, layers]
