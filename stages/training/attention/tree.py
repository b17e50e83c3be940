"""Attention over packed trees: every completion sees its prompt and itself, nothing else.

Everything but attention runs once per token of the pack. Attention enters transformers under the
name `prefline_tree` through the attention and the mask registry; `TreeAttention` travels as a
keyword argument of the model. The kernel is chosen here, by device, number format and window:
blocks of queries on a CPU; two parts of unmasked attention, merged, where there is a kernel that
gives log-sum-exps; else whole sequences, gathered and padded. No mask of the whole pack exists.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from stages.training.attention.blocks import Run, attention_in_blocks, runs_of
from stages.training.attention.flash_kernels import Segments
from stages.training.attention.places import Places
from stages.training.attention.sequences import Sequences, attention_by_sequence
from stages.training.attention.split import Crossing, attention_in_parts, has_kernel

NAME = "prefline_tree"

# Arguments of attention functions that change the result in a way which is not done here.
_UNKNOWN_HERE = ("softcap", "s_aux", "sinks", "position_bias", "head_mask")


class CannotShareError(Exception):
    """The model's attention asks for something that this one does not do."""


@dataclass(frozen=True)
class TreeAttention:
    """Who attends to whom in a pack, in the forms that the kernels want.

    `filler`: tokens at the end of the row that nobody reads; they see themselves, or nothing.
    """

    places: Sequence[Places]
    filler: range
    device: torch.device

    @cached_property
    def own(self) -> Segments:
        """Runs that are causal in themselves and cover the row.

        A prompt with its first branch, every further branch by itself, and the filler.
        """
        ends = [branch.stop for place in self.places for branch in place.branches]
        return Segments.ending_at(
            [*ends, *([self.filler.stop] if self.filler else [])], self.device
        )

    @cached_property
    def crossing(self) -> Crossing | None:
        """Further branches and the prompts that they see; None where trees have one branch."""
        further = [(b, place.prompt) for place in self.places for b in place.branches[1:]]
        return Crossing.of(further, self.device) if further else None

    @cached_property
    def sequences(self) -> Sequences:
        """Each branch behind its prompt, as a sequence of its own."""
        runs = [[*place.prompt, *b] for place in self.places for b in place.branches]
        runs += [list(self.filler)] if self.filler else []
        return Sequences.over(runs, self.filler.stop, self.device)

    @cached_property
    def runs(self) -> Sequence[Run]:
        """Each branch behind its prompt, as places in the row."""
        return runs_of(self.places)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest prompt with a branch."""
        return max(len(p.prompt) + max(map(len, p.branches)) for p in self.places)


@contextmanager
def shared_prompts(model: Any) -> Iterator[None]:
    """Let the model's forward, and a recomputation within its backward, use tree attention."""
    _register()
    before = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before


@cache
def _register() -> None:
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    tree: TreeAttention | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """query (1, heads, tokens, d), key and value (1, kv heads, tokens, d) to (1, tokens, heads, d).

    Raises:
        CannotShareError: soft-capping, sinks, dropout, a prepared mask, or no tree was given.
    """
    unknown = [name for name in _UNKNOWN_HERE if kwargs.get(name) is not None]
    if tree is None or unknown or dropout or attention_mask is not None:
        raise CannotShareError(f"attention with {', '.join(unknown) or 'dropout or a mask'}")
    window = sliding_window if sliding_window and sliding_window < tree.longest else None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.device.type == "cuda":
        # Under autocast rotary embeddings leave float32, and the kernels want one type.
        query, key = query.to(value.dtype), key.to(value.dtype)
    states = (query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1))
    if window is None and _in_blocks(value):
        merged = attention_in_blocks(states, tree.runs, scale)
    elif window is None and has_kernel(query, value):
        merged = attention_in_parts(states, tree.own, tree.crossing, scale)
    else:
        merged = attention_by_sequence(states, tree.sequences, scale, window)
    return merged.unsqueeze(0), None


def _in_blocks(value: Tensor) -> bool:
    return value.device.type == "cpu"
