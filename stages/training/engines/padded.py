"""Items as padded batches: plain torch, for any causal language model."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evals.models.checkpoints import Dtype
from evals.models.logps import completion_scores
from evals.models.rendering import RenderedCompletion
from stages.training.data.packing import Tree, token_weights, tree_size
from stages.training.engines.gradient_checkpointing import recomputed
from stages.training.engines.precision import autocast
from stages.training.engines.routers import RouterTerm, watched_routers
from stages.training.engines.scoring import ALL_LAYERS, Scores, TermsOf, TreeItem, joined_columns
from stages.training.memory.budget import PassBudget
from stages.training.memory.passes import Pass


class PaddedEngine:
    """Every completion behind its own copy of the prompt, padded to the longest; autograd."""

    def __init__(
        self,
        dtype: Dtype = "float32",
        *,
        recompute: bool = False,
        limit: PassBudget | None = None,
    ) -> None:
        """`recompute`: gradient checkpointing, unless `limit` says what a pass may take."""
        self.dtype = dtype
        self._recompute = recompute
        self._limit = limit

    def micro_batches(self, items: Sequence[TreeItem], size: int) -> list[list[TreeItem]]:
        """Items of similar length, longest first; fewer together where memory is limited."""
        ordered = sorted(items, key=tree_size, reverse=True)
        groups: list[list[TreeItem]] = []
        start = 0
        while start < len(ordered):
            most = ordered[start : start + size]
            groups.append(most[: self._together(most)])
            start += len(groups[-1])
        return groups

    def _together(self, items: Sequence[TreeItem]) -> int:
        """How many of the first items go through the model together."""
        if self._limit is None:
            return len(items)
        alone = list(self.passes_alone(items))
        most = max(alone, key=lambda one: one.tokens)
        largest = replace(most, scored=max(one.scored for one in alone))
        return self._limit.most_items(largest, len(items))

    def passes_alone(self, items: Sequence[TreeItem]) -> Iterator[Pass]:
        """See `Engine`."""
        for item in items:
            lengths = list(map(len, item.branches))
            tokens = len(lengths) * (len(item.prompt_ids) + max(lengths))
            yield Pass(tokens, sum(lengths), len(lengths))

    def _again(self, items: Sequence[TreeItem]) -> int:
        """The first layers, so many, that are run again in the backward of a pass."""
        if self._limit is None:
            return ALL_LAYERS if self._recompute else 0
        alone = list(self.passes_alone(items))
        longest = max(alone, key=lambda one: one.tokens).times(len(alone))
        return self._limit.fitted(replace(longest, scored=sum(one.scored for one in alone))).again

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
        with torch.no_grad():
            scores, routers = self._scores(model, items, count_correct, collision)
            return joined_columns([terms(items, scores)], routers)

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
        with recomputed(model, self._again(items)):
            scores, routers = self._scores(model, items, False, collision)
        result = terms(items, scores)
        loss = result.loss.sum() * scale
        if routers is not None:
            loss = loss + routers.coefficient * share * routers.loss
        loss.backward()  # type: ignore[no-untyped-call]
        return joined_columns([result], routers)

    def _scores(
        self, model: PreTrainedModel, items: Sequence[Tree], count_correct: bool, collision: bool
    ) -> tuple[Scores, RouterTerm | None]:
        sequences = [
            RenderedCompletion(list(item.prompt_ids), list(ids))
            for item in items
            for ids in item.branches
        ]
        weights = [row for item in items for row in token_weights(item)]
        with watched_routers(model) as routers, autocast(self.dtype, model.device):
            scores = completion_scores(
                model,
                sequences,
                count_correct=count_correct,
                collision=collision,
                weights=weights if any(row is not None for row in weights) else None,
            )

        def by_item(column: Tensor | None) -> Tensor | None:
            return None if column is None else column.view(len(items), -1)

        logps = scores.logps.view(len(items), -1)
        lengths = [len(s.prompt_ids) + len(s.completion_ids) for s in sequences]
        places = torch.arange(max(lengths), device=model.device)
        present = (places < torch.tensor(lengths, device=model.device)[:, None]).long()
        found = Scores(logps, by_item(scores.correct), by_item(scores.collision))
        return found, routers.term(present)
