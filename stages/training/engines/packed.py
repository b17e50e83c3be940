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
    ) -> dict[str, Tensor]:
        """See `Engine`."""
        results = []
        with torch.no_grad():
            pack = Pack.of(items, model.device)
            hidden = self._states_before_head(model, pack)
            head = FusedHead(head_of(model), self.dtype, self._workspace)
            for tile in pack.tiles(head.tile_tokens):
                logits = head.logits(hidden[tile.predictors], tile.targets)
                scores = _tile_scores(tile, logits, count_correct)
                results.append(terms(_items(items, tile), scores))
        return joined_columns(results)

    def accumulate(
        self,
        model: PreTrainedModel,
        items: Sequence[TreeItem],
        terms: TermsOf[TreeItem],
        scale: float,
    ) -> dict[str, Tensor]:
        """See `Engine`."""
        pack = Pack.of(items, model.device)
        results = []
        with shared_prompts(model), row_gradients(model):
            with recomputed(model, self._recompute):
                hidden = self._states_before_head(model, pack)
            states, gradient = hidden.detach(), torch.zeros_like(hidden)
            head = FusedHead(head_of(model), self.dtype, self._workspace)
            for tile in pack.tiles(head.tile_tokens):
                read = states[tile.predictors]
                with torch.no_grad():
                    logits = head.logits(read, tile.targets)
                    scores = _tile_scores(tile, logits, count_correct=False)
                scores.logps.requires_grad_()
                results.append(terms(_items(items, tile), scores))
                loss = results[-1].loss.sum() * scale
                (slopes,) = torch.autograd.grad(loss, scores.logps)
                with torch.no_grad():
                    slopes = slopes.flatten()[tile.branches]
                    back = head.backward(read, logits, tile.targets, slopes)
                gradient.index_add_(0, tile.predictors, back)
            hidden.backward(gradient)  # type: ignore[no-untyped-call]
        return joined_columns(results)

    def _states_before_head(self, model: Any, pack: Pack) -> Tensor:
        """What the LM head would read at every token of the pack: (tokens, hidden)."""
        seen: list[Tensor] = []
        head = head_of(model)

        def look(states: Tensor) -> Tensor:
            seen.append(states[0])
            return states[:, :1].detach()

        head.forward = look  # not only a hook: autocast would cast the whole weight
        try:
            with shared_prompts(model), autocast(self.dtype, model.device):
                model(
                    input_ids=pack.input_ids,
                    position_ids=pack.position_ids,
                    use_cache=False,
                    tree=pack.attention,
                )
        finally:
            del head.forward
        return seen[0]


def _items(items: Sequence[TreeItem], tile: Tile) -> Sequence[TreeItem]:
    return items[tile.trees.start : tile.trees.stop]


def _tile_scores(tile: Tile, logits: Logits, count_correct: bool) -> Scores:
    def by_branch(values: Tensor) -> Tensor:
        sums = values.new_zeros(tile.num_branches).index_add_(0, tile.branches, values)
        return sums.view(len(tile.trees), -1)

    logps = by_branch(logits.target_logps.double())
    if not count_correct:
        return Scores(logps)
    return Scores(logps, by_branch((logits.table.argmax(dim=-1) == tile.targets).to(torch.int64)))


def head_of(model: PreTrainedModel) -> Any:
    """The model's LM head."""
    return model.get_output_embeddings()
