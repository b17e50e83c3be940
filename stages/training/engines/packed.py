"""Items packed with shared prompts, and a head that is fused with the loss: the fast engine."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evals.models.checkpoints import Dtype
from stages.training.attention.tree import shared_prompts
from stages.training.data.packing import Pack, Tile, first_fit_decreasing, tree_size
from stages.training.engines.fused_head import FusedHead, Logits, Workspace
from stages.training.engines.gradient_checkpointing import recomputed
from stages.training.engines.precision import autocast
from stages.training.engines.routers import RouterTerm, watched_routers
from stages.training.engines.row_gradients import row_gradients
from stages.training.engines.scoring import Scores, TermsOf, TreeItem, joined_columns


class PackedEngine:
    """Trees packed without padding under a token budget; the LM head fused with the loss."""

    def __init__(
        self,
        dtype: Dtype = "float32",
        tokens_per_micro_batch: int = 1024,
        *,
        recompute: bool = False,
    ) -> None:
        """`recompute`: gradient checkpointing."""
        self.dtype = dtype
        self._budget = tokens_per_micro_batch
        self._recompute = recompute
        self._workspace = Workspace()

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
                logits = head.logits(hidden[tile.predictors], tile.targets)
                scores = _tile_scores(tile, logits, count_correct, collision)
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
        with shared_prompts(model), row_gradients(model):
            with recomputed(model, self._recompute):
                hidden, routers = self._states_before_head(model, pack)
            states, gradient = hidden.detach(), torch.zeros_like(hidden)
            head = FusedHead(head_of(model), self.dtype, self._workspace)
            for tile in pack.tiles(head.tile_tokens):
                read = states[tile.predictors]
                with torch.no_grad():
                    logits = head.logits(read, tile.targets)
                    scores = _tile_scores(tile, logits, False, collision)
                scores.logps.requires_grad_()
                results.append(terms(_items(items, tile), scores))
                loss = results[-1].loss.sum() * scale
                (slopes,) = torch.autograd.grad(loss, scores.logps)
                with torch.no_grad():
                    slopes = slopes.flatten()[tile.branches]
                    if tile.weights is not None:
                        slopes = slopes * tile.weights
                    back = head.backward(read, logits, tile.targets, slopes)
                gradient.index_add_(0, tile.predictors, back)
            if routers is None:
                hidden.backward(gradient)  # type: ignore[no-untyped-call]
            else:
                weight = routers.loss.new_tensor(routers.coefficient * share)
                torch.autograd.backward([hidden, routers.loss], [gradient, weight])
        return joined_columns(results, routers)

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


def _tile_scores(tile: Tile, logits: Logits, count_correct: bool, collision: bool) -> Scores:
    def by_branch(values: Tensor) -> Tensor:
        if tile.weights is not None and values.is_floating_point():
            values = values * tile.weights
        sums = values.new_zeros(tile.num_branches).index_add_(0, tile.branches, values)
        return sums.view(len(tile.trees), -1)

    hits = (logits.table.argmax(dim=-1) == tile.targets).to(torch.int64) if count_correct else None
    return Scores(
        by_branch(logits.target_logps.double()),
        None if hits is None else by_branch(hits),
        by_branch(logits.collision().double()) if collision else None,
    )


def head_of(model: PreTrainedModel) -> Any:
    """The model's LM head."""
    return model.get_output_embeddings()
