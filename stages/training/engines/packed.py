"""Items packed with shared prompts, and a head that is fused with the loss: the fast engine."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evals.models.checkpoints import Dtype
from stages.training.attention.tree import shared_prompts
from stages.training.data.packing import Pack, Tile, first_fit_decreasing, tree_size
from stages.training.engines.fused_head import FusedHead, Logits, Workspace
from stages.training.engines.gradient_checkpointing import layers_to_rerun, recomputed
from stages.training.engines.lean_layers import LeanLayers
from stages.training.engines.precision import autocast
from stages.training.engines.routers import RouterTerm, watched_routers
from stages.training.engines.row_gradients import row_gradients
from stages.training.engines.scoring import ALL_LAYERS, Scores, TermsOf, TreeItem, joined_columns
from stages.training.memory.budget import PassBudget
from stages.training.memory.passes import Pass


class PackedEngine:
    """Trees packed without padding under a token budget; the LM head fused with the loss."""

    def __init__(
        self,
        dtype: Dtype = "float32",
        tokens_per_micro_batch: int = 1024,
        *,
        recompute: bool = False,
        limit: PassBudget | None = None,
    ) -> None:
        """`recompute`: gradient checkpointing, unless `limit` says what a pass may take."""
        self.dtype = dtype
        self._budget = tokens_per_micro_batch
        self._recompute = recompute
        self._limit = limit
        self._workspace = Workspace()
        self._lean_of: WeakKeyDictionary[PreTrainedModel, LeanLayers] = WeakKeyDictionary()

    def micro_batches(self, items: Sequence[TreeItem], size: int) -> list[list[TreeItem]]:
        """First-fit-decreasing bins: at most `size` items, and tokens within the budget."""
        bins = first_fit_decreasing([tree_size(item) for item in items], self._budget, size)
        return [[items[i] for i in indices] for indices in bins]

    def measure(
        self,
        model: PreTrainedModel,
        items: Sequence[TreeItem],
        terms: TermsOf[TreeItem],
        *,
        count_correct: bool = False,
        collision: bool = False,
    ) -> dict[str, Tensor]:
        """See `Engine`."""
        results = []
        with torch.no_grad():
            pack = Pack.of(items, model.device)
            hidden, routers = self._states_before_head(model, pack)
            head = FusedHead(head_of(model), self.dtype, self._workspace)
            for tile in pack.tiles(head.tile_tokens):
                pieces = _Pieces(head, hidden[tile.predictors], tile.targets)
                scores = _tile_scores(tile, pieces.values(count_correct, collision))
                results.append(terms(_items(items, tile), scores))
        return joined_columns(results, routers)

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
        """See `Engine`."""
        pack = Pack.of(items, model.device)
        results = []
        again = self._again(items)
        with shared_prompts(model), row_gradients(model), self._lean(model, again):
            with recomputed(model, again):
                hidden, routers = self._states_before_head(model, pack)
            states, gradient = hidden.detach(), torch.zeros_like(hidden)
            head = FusedHead(head_of(model), self.dtype, self._workspace)
            for tile in pack.tiles(head.tile_tokens):
                pieces = _Pieces(head, states[tile.predictors], tile.targets)
                with torch.no_grad():
                    scores = _tile_scores(tile, pieces.values(False, collision))
                scores.logps.requires_grad_()
                results.append(terms(_items(items, tile), scores))
                loss = results[-1].loss.sum() * scale
                (slopes,) = torch.autograd.grad(loss, scores.logps)
                with torch.no_grad():
                    slopes = slopes.flatten()[tile.branches]
                    if tile.weights is not None:
                        slopes = slopes * tile.weights
                    pieces.backward(slopes, gradient, tile.predictors)
            if routers is None:
                hidden.backward(gradient)  # type: ignore[no-untyped-call]
            else:
                weight = routers.loss.new_tensor(routers.coefficient * share)
                torch.autograd.backward([hidden, routers.loss], [gradient, weight])
        return joined_columns(results, routers)

    def passes_alone(self, items: Sequence[TreeItem]) -> Iterator[Pass]:
        """See `Engine`."""
        for item in items:
            yield Pass(tree_size(item), sum(map(len, item.branches)))

    def _again(self, items: Sequence[TreeItem]) -> int:
        """The first layers, so many, that are run again in the backward of a pass."""
        if self._limit is None:
            return ALL_LAYERS if self._recompute else 0
        alone = list(self.passes_alone(items))
        tokens, scored = sum(one.tokens for one in alone), sum(one.scored for one in alone)
        together = Pass(tokens, scored, items=len(alone))
        return self._limit.fitted(together).again

    def _lean(self, model: PreTrainedModel, again: int) -> AbstractContextManager[None]:
        """In half precision norms and MLPs cast, and layers that are run again keep nothing."""
        layers = layers_to_rerun(model)
        all_again = bool(again) and again >= len(layers)
        if model.device.type != "cpu" or self.dtype != "float32" or all_again:
            return nullcontext()
        if model not in self._lean_of:
            self._lean_of[model] = LeanLayers.of(model)
        return self._lean_of[model].outside(layers[:again]).in_force()

    def _states_before_head(self, model: Any, pack: Pack) -> tuple[Tensor, RouterTerm | None]:
        """What the LM head would read at every token of the pack (tokens, hidden); router term."""
        seen: list[Tensor] = []
        head = head_of(model)

        def look(states: Tensor) -> Tensor:
            seen.append(states[0])
            return states[:, :1].detach()

        head.forward = look  # not only a hook: autocast would cast the whole weight
        try:
            with (
                shared_prompts(model),
                watched_routers(model) as routers,
                autocast(self.dtype, model.device),
            ):
                model(
                    input_ids=pack.input_ids,
                    position_ids=pack.position_ids,
                    use_cache=False,
                    tree=pack.attention,
                )
        finally:
            del head.forward
        present = torch.ones_like(pack.input_ids)
        present[:, pack.attention.filler.start :] = 0
        return seen[0], routers.term(present)


def _items(items: Sequence[TreeItem], tile: Tile) -> Sequence[TreeItem]:
    return items[tile.trees.start : tile.trees.stop]


@dataclass(frozen=True)
class _TokenValues:
    """Of k completion tokens; see `Scores`."""

    logps: Tensor
    correct: Tensor | None
    collision: Tensor | None


class _Pieces:
    """The completion tokens of a tile, a few at a time where its one tree has too many.

    The loss must know all log-probabilities before any gradient: the logits of several pieces are
    made twice, that of one piece are still there.
    """

    def __init__(self, head: FusedHead, read: Tensor, targets: Tensor) -> None:
        """`read` (k, hidden): what the head reads before the tokens `targets` (k,)."""
        self._head, self._read, self._targets = head, read, targets
        size = head.tile_tokens if len(targets) > 2 * head.tile_tokens else len(targets)
        self._places = [slice(at, at + size) for at in range(0, len(targets), size)]
        self._logits: Logits | None = None

    def values(self, count_correct: bool, collision: bool) -> _TokenValues:
        """Log-probabilities of all tokens, float64, and what else is asked for."""
        rows = [self._values(at, count_correct, collision) for at in self._places]

        def joined(values: list[Tensor | None]) -> Tensor | None:
            there = [v for v in values if v is not None]
            return torch.cat(there) if there else None

        return _TokenValues(
            torch.cat([row.logps for row in rows]),
            joined([row.correct for row in rows]),
            joined([row.collision for row in rows]),
        )

    def _values(self, at: slice, count_correct: bool, collision: bool) -> _TokenValues:
        targets = self._targets[at]
        logits = self._logits = self._head.logits(self._read[at], targets)
        hits = (logits.table.argmax(dim=-1) == targets).to(torch.int64) if count_correct else None
        squares = logits.collision().double() if collision else None
        return _TokenValues(logits.target_logps.double(), hits, squares)

    def backward(self, slopes: Tensor, gradient: Tensor, rows: Tensor) -> None:
        """Add the gradient of what was read to the `rows` (k,) of `gradient`."""
        for at in self._places:
            read, targets = self._read[at], self._targets[at]
            logits = self._logits if len(self._places) == 1 else self._head.logits(read, targets)
            assert logits is not None
            back = self._head.backward(read, logits, targets, slopes[at])
            gradient.index_add_(0, rows[at], back)


def _tile_scores(tile: Tile, tokens: _TokenValues) -> Scores:
    def by_branch(values: Tensor) -> Tensor:
        if tile.weights is not None and values.is_floating_point():
            values = values * tile.weights
        sums = values.new_zeros(tile.num_branches).index_add_(0, tile.branches, values)
        return sums.view(len(tile.trees), -1)

    return Scores(
        by_branch(tokens.logps),
        None if tokens.correct is None else by_branch(tokens.correct),
        None if tokens.collision is None else by_branch(tokens.collision),
    )


def head_of(model: PreTrainedModel) -> Any:
    """The model's LM head."""
    return model.get_output_embeddings()
