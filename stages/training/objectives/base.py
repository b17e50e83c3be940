"""The seam between the loop and what it minimises.

The loop knows items and steps; an objective knows what log-probabilities are worth and what the
measured columns mean; its engine knows how items go through the model.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from torch import Tensor
from transformers import PreTrainedModel

from stages.training.data.packing import tree_size
from stages.training.engines.choose import Engine, PaddedEngine, Scores, Terms, TreeItem

Item = TypeVar("Item")
Columns = Mapping[str, Tensor]


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

    @property
    def looks_at_batch(self) -> bool:
        """Whether a step is measured as a whole before its gradients are taken."""

    remembered: dict[str, float]
    """Numbers that go on from step to step, and so into checkpoints."""

    def see_batch(
        self, items: Sequence[Item], columns: Columns, *, training: bool = False
    ) -> Columns:
        """Given what `measure` said of a whole step or set: the same with the losses in it.

        `training`: the step is about to be trained on, and not only measured.
        """

    def accumulate(self, model: PreTrainedModel, items: Sequence[Item], scale: float) -> Columns:
        """Add the gradient of scale * (sum of the items' losses) to the parameters.

        Returns columns (n,) in the order of `items`, detached; `loss` is one of them.
        """

    def measure(self, model: PreTrainedModel, items: Sequence[Item]) -> Columns:
        """Columns (n,) as `accumulate` gives, without gradients; may hold more columns."""

    def summarise(self, columns: Columns) -> dict[str, float]:
        """Metrics of all items of a step or of a held-out set, from their joined columns."""


class TreeObjective(ABC, Generic[TreeItem]):
    """An objective over prompts with completions, given by what scores mean; an engine runs it."""

    counts_correct = False
    needs_collision = False
    looks_at_batch = False

    def __init__(self, engine: Engine | None = None) -> None:
        """Without an engine: padded batches in float32."""
        self.engine = engine or PaddedEngine()
        self.remembered: dict[str, float] = {}

    @abstractmethod
    def denominator(self, items: Sequence[TreeItem]) -> float:
        """See `Objective`."""

    @abstractmethod
    def terms(self, items: Sequence[TreeItem], scores: Scores) -> Terms:
        """Losses and columns of items from the log-probabilities of their completions."""

    def see_batch(
        self, items: Sequence[TreeItem], columns: Columns, *, training: bool = False
    ) -> Columns:
        """See `Objective`; most objectives look at one item at a time."""
        return columns

    def num_tokens(self, item: TreeItem) -> int:
        """See `Objective`."""
        return tree_size(item)

    def micro_batches(self, items: Sequence[TreeItem], size: int) -> list[list[TreeItem]]:
        """See `Objective`."""
        return self.engine.micro_batches(items, size)

    def accumulate(
        self, model: PreTrainedModel, items: Sequence[TreeItem], scale: float
    ) -> Columns:
        """See `Objective`."""
        return self.engine.accumulate(
            model,
            items,
            self.terms,
            scale,
            share=self.denominator(items) * scale,
            collision=self.needs_collision,
        )

    def measure(self, model: PreTrainedModel, items: Sequence[TreeItem]) -> Columns:
        """See `Objective`."""
        return self.engine.measure(
            model,
            items,
            self.terms,
            count_correct=self.counts_correct,
            collision=self.needs_collision,
        )


def with_router_term(metrics: dict[str, float], columns: Columns, name: str) -> dict[str, float]:
    """Metrics whose `loss` is the total: what is minimised over items, and the routers' term.

    `name` is what the loss without that term is called. Models without experts have no such term.
    """
    if "router_term" not in columns:
        return metrics
    return metrics | {
        name: metrics["loss"],
        "router_aux_loss": float(columns["router_aux"].mean()),
        "router_max_load": float(columns["router_load"].mean()),
        "loss": metrics["loss"] + float(columns["router_term"].mean()),
    }
