"""Items as padded batches: plain torch, for any causal language model."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evals.models.checkpoints import Dtype
from evals.models.logps import completion_scores
from evals.models.rendering import RenderedCompletion
from stages.training.data.packing import Tree, tree_size
from stages.training.engines.gradient_checkpointing import recomputed
from stages.training.engines.precision import autocast
from stages.training.engines.scoring import Scores, TermsOf, TreeItem, joined_columns


class PaddedEngine:
    """Every completion behind its own copy of the prompt, padded to the longest; autograd."""

    def __init__(self, dtype: Dtype = "float32", *, recompute: bool = False) -> None:
        """`recompute`: gradient checkpointing."""
        self.dtype = dtype
        self._recompute = recompute

    def micro_batches(self, items: Sequence[TreeItem], size: int) -> list[list[TreeItem]]:
        """Items of similar length, longest first."""
        ordered = sorted(items, key=tree_size, reverse=True)
        return [ordered[i : i + size] for i in range(0, len(ordered), size)]

    def measure(
        self,
        model: PreTrainedModel,
        items: Sequence[TreeItem],
        terms: TermsOf[TreeItem],
        *,
        count_correct: bool = False,
    ) -> dict[str, Tensor]:
        """See `Engine`."""
        with torch.no_grad():
            return joined_columns([terms(items, self._scores(model, items, count_correct))])

    def accumulate(
        self,
        model: PreTrainedModel,
        items: Sequence[TreeItem],
        terms: TermsOf[TreeItem],
        scale: float,
    ) -> dict[str, Tensor]:
        """See `Engine`."""
        with recomputed(model, self._recompute):
            scores = self._scores(model, items, count_correct=False)
        result = terms(items, scores)
        (result.loss.sum() * scale).backward()  # type: ignore[no-untyped-call]
        return joined_columns([result])

    def _scores(self, model: PreTrainedModel, items: Sequence[Tree], count_correct: bool) -> Scores:
        sequences = [
            RenderedCompletion(list(item.prompt_ids), list(ids))
            for item in items
            for ids in item.branches
        ]
        with autocast(self.dtype, model.device):
            scores = completion_scores(model, sequences, count_correct=count_correct)
        shape = (len(items), -1)
        correct = None if scores.correct is None else scores.correct.view(shape)
        return Scores(scores.logps.view(shape), correct)
