"""The seam between the loop and what it minimises.

The loop knows items and steps; an objective knows how items become micro-batches, how those go
through the model, and what the measured columns mean. A faster forward (packing, a shared prompt,
a fused head) is another `micro_batches` and `accumulate`, and no change to the loop.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from evals.models.checkpoints import Dtype
from stages.training.precision import autocast

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Item = TypeVar("Item")
Columns = Mapping[str, "Tensor"]


class Objective(Protocol[Item]):
    """What a training minimises over items."""

    unit: str

    def key(self, item: Item) -> str:
        """The item's id, for errors."""

    def num_tokens(self, item: Item) -> int:
        """Distinct tokens of the item: a prompt that two completions share counts once."""

    def micro_batches(self, items: Sequence[Item], size: int) -> list[list[Item]]:
        """The items in groups that go through the model together; none is lost or repeated."""

    def denominator(self, items: Sequence[Item]) -> float:
        """What the summed loss of a step is divided by."""

    def accumulate(self, model: "PreTrainedModel", items: Sequence[Item], scale: float) -> Columns:
        """Add the gradient of scale * (sum of the items' losses) to the parameters.

        Returns columns (n,) in the order of `items`, detached; `loss` is one of them.
        """

    def measure(self, model: "PreTrainedModel", items: Sequence[Item]) -> Columns:
        """Columns (n,) as `accumulate` gives, without gradients; may hold more columns."""

    def summarise(self, columns: Columns) -> dict[str, float]:
        """Metrics of all items of a step or of a held-out set, from their joined columns."""


@dataclass(frozen=True)
class Terms:
    """Of n items: the differentiable loss (n,), and detached columns (n,) to report."""

    loss: "Tensor"
    columns: Columns


class PerItemObjective(ABC, Generic[Item]):
    """An objective given by a forward pass: one loss per item, gradients by autograd."""

    def __init__(self, dtype: Dtype = "float32") -> None:
        self.dtype = dtype

    @abstractmethod
    def forward(self, model: "PreTrainedModel", items: Sequence[Item], *, training: bool) -> Terms:
        """Losses and columns of a micro-batch."""

    @abstractmethod
    def num_tokens(self, item: Item) -> int:
        """Distinct tokens of the item."""

    def micro_batches(self, items: Sequence[Item], size: int) -> list[list[Item]]:
        """Groups of at most `size` items of similar length, longest first."""
        ordered = sorted(items, key=self.num_tokens, reverse=True)
        return [ordered[i : i + size] for i in range(0, len(ordered), size)]

    def accumulate(self, model: "PreTrainedModel", items: Sequence[Item], scale: float) -> Columns:
        """See `Objective`."""
        with autocast(self.dtype, model.device):
            terms = self.forward(model, items, training=True)
        (terms.loss.sum() * scale).backward()  # type: ignore[no-untyped-call]
        return {"loss": terms.loss.detach(), **terms.columns}

    def measure(self, model: "PreTrainedModel", items: Sequence[Item]) -> Columns:
        """See `Objective`."""
        import torch

        with torch.no_grad(), autocast(self.dtype, model.device):
            terms = self.forward(model, items, training=False)
        return {"loss": terms.loss, **terms.columns}
