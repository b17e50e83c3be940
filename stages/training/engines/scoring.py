"""What an engine gives and takes: scores of items, and what an objective makes of them."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evals.models.checkpoints import Dtype
from stages.training.data.packing import Tree
from stages.training.engines.routers import RouterTerm
from stages.training.memory.passes import Pass

TreeItem = TypeVar("TreeItem", bound=Tree)

ALL_LAYERS = sys.maxsize
"""Of layers that are run again: more than there are."""


@dataclass(frozen=True)
class Scores:
    """Of n items with b branches each.

    `logps`: float64 (n, b), sum over completion tokens of log p(token | what precedes it), nats.
    `correct`: int64 (n, b), completion tokens that are the model's first choice; None if not asked.
    `collision`: float64 (n, b), sum of log sum_v p(v)^2 over the tokens; None if not asked.
    """

    logps: Tensor
    correct: Tensor | None = None
    collision: Tensor | None = None


@dataclass(frozen=True)
class Terms:
    """Of n items: the loss (n,), differentiable by the scores, and columns (n,) to report."""

    loss: Tensor
    columns: dict[str, Tensor]


TermsOf = Callable[[Sequence[TreeItem], Scores], Terms]


class Engine(Protocol):
    """Runs items through a model, in number format `dtype`."""

    dtype: Dtype

    def micro_batches(self, items: Sequence[TreeItem], size: int) -> list[list[TreeItem]]:
        """Groups of at most `size` items that go through the model together."""

    def passes_alone(self, items: Sequence[TreeItem]) -> Iterator[Pass]:
        """The pass of each item alone."""

    def measure(
        self,
        model: PreTrainedModel,
        items: Sequence[TreeItem],
        terms: TermsOf[TreeItem],
        *,
        count_correct: bool = False,
        collision: bool = False,
    ) -> dict[str, Tensor]:
        """Loss and columns (n,) in the order of `items`, without gradients."""

    def accumulate(
        self,
        model: PreTrainedModel,
        items: Sequence[TreeItem],
        terms: TermsOf[TreeItem],
        scale: float,
        *,
        share: float = 0.0,
        collision: bool = False,
    ) -> dict[str, Tensor]:
        """The same, and adds the gradient of scale * (sum of losses) to the parameters.

        `share`: of the step, which is what the pass counts in a router's term.
        """


def joined_columns(
    results: Sequence[Terms], routers: RouterTerm | None = None
) -> dict[str, Tensor]:
    """Losses and columns of all results of a pass, end to end and detached."""
    parts = [{"loss": result.loss.detach(), **result.columns} for result in results]
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return joined if routers is None else joined | routers.columns(joined["loss"])
