"""Tree attention on a CPU in bfloat16: matrix products over whole trees, by blocks of queries.

A tree is short, so the scores of a block of its queries fit into a core's cache, and plain products
with a softmax between them take half the time of torch's flash attention for CPUs, whose own are
small and in float32. Nothing is merged: a row of scores has all keys that its query sees.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stages.training.attention.flash_kernels import States, every_head
from stages.training.attention.places import ROUND_TOKENS, Places
from stages.training.engines.precision import matmul_precision

_BLOCK_QUERIES = 128

# A score that softmax makes an exact zero of; infinities are slow.
_UNSEEN = -1e30


@dataclass(frozen=True)
class Block:
    """Queries `start` to `stop` of a tree: they see what is not after them and not `hidden`.

    `hidden`: (queries, counted from `start`; keys) of different branches.
    """

    start: int
    stop: int
    hidden: Sequence[tuple[slice, slice]]

    def weights(self, query: Tensor, key: Tensor) -> Tensor:
        """Softmax of scores, (heads, stop - start, stop), of scaled queries (heads, tokens, d)."""
        scores = self.of(query) @ self.seen(key).transpose(1, 2)
        later = torch.full([self.stop - self.start] * 2, _UNSEEN).triu_(1)
        scores[:, :, self.start :].add_(later)
        for queries, keys in self.hidden:
            scores[:, queries, keys] = _UNSEEN
        return scores.softmax(dim=2)

    def of(self, states: Tensor) -> Tensor:
        """The block's own part of (heads, tokens, d)."""
        return states[:, self.start : self.stop]

    def seen(self, states: Tensor) -> Tensor:
        """The part of (heads, tokens, d) that reaches to the block's end."""
        return states[:, : self.stop]


@dataclass(frozen=True)
class TreeBlocks:
    """A tree at `row` of the pack, read into `size` tokens: kernels are made per length."""

    row: slice
    size: int
    blocks: Sequence[Block]

    @classmethod
    def of(cls, place: Places) -> "TreeBlocks":
        """The blocks of a tree."""
        start, end = place.prompt.start, place.branches[-1].stop
        size = -(-(end - start) // ROUND_TOKENS) * ROUND_TOKENS
        edges = range(0, size, _BLOCK_QUERIES)
        return cls(slice(start, end), size, [_block(place, edge, size) for edge in edges])

    def read(self, states: Tensor, dtype: torch.dtype) -> Tensor:
        """(tokens, heads, d) of the pack to (heads, size, d) of the tree, zeros at its end."""
        _, heads, width = states.shape
        read = states.new_empty((heads, self.size, width), dtype=dtype)
        length = self.row.stop - self.row.start
        read[:, :length] = states[self.row].transpose(0, 1)
        read[:, length:] = 0
        return read

    def write(self, pack: Tensor, states: Tensor) -> None:
        """The way back."""
        pack[self.row] = states[:, : self.row.stop - self.row.start].transpose(0, 1)


def _block(place: Places, start: int, size: int) -> Block:
    stop = min(start + _BLOCK_QUERIES, size)
    return Block(start, stop, list(_hidden(place, start, stop)))


def _hidden(place: Places, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
    """Of every further branch, its queries in the block; and the keys of branches before it."""
    origin = place.prompt.start
    for branch in place.branches[1:]:
        first, last = max(branch.start - origin, start), min(branch.stop - origin, stop)
        if first < last:
            keys = slice(place.prompt.stop - origin, branch.start - origin)
            yield slice(first - start, last - start), keys


def attention_in_blocks(states: States, trees: Sequence[TreeBlocks], scale: float) -> Tensor:
    """Query, key and value (tokens, heads or kv heads, d) to (tokens, heads, d of value).

    Tokens of no tree get zeros. Scores and their gradients are float32, as in FlashAttention-2
    (Dao 2023, arXiv:2307.08691); what they are multiplied with is in the format of the value.
    """
    result: Tensor = _InBlocks.apply(*every_head(states), trees, scale)  # type: ignore[no-untyped-call]
    return result


class _InBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        query, key, value, ctx.trees, ctx.scale = arguments
        ctx.save_for_backward(query, key, value)
        output: Tensor = value.new_zeros(query.shape[:2] + value.shape[2:])
        with matmul_precision("medium"):
            for tree in ctx.trees:
                tree.write(output, _attended(tree, (query, key, value), ctx.scale))
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        states = ctx.saved_tensors
        totals = [torch.zeros_like(t) for t in states]
        with matmul_precision("medium"):
            for tree in ctx.trees:
                found = _differentiated(tree, gradients[0], states, ctx.scale)
                for total, part in zip(totals, found, strict=True):
                    tree.write(total, part)
        return (*totals, None, None)


def _attended(tree: TreeBlocks, states: States, scale: float) -> Tensor:
    query, key = (tree.read(t, torch.float32) for t in states[:2])
    value = tree.read(states[2], states[2].dtype)
    query *= scale
    parts = [b.weights(query, key).to(value.dtype) @ b.seen(value) for b in tree.blocks]
    return torch.cat(parts, dim=1)


def _differentiated(
    tree: TreeBlocks, gradient: Tensor, states: States, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the tree's query, key and value; the weights are computed again.

    With weights p = softmax(s): d s = p * (d p - sum(p * d p)).
    """
    low = states[2].dtype
    query, key, value, back = (tree.read(t, torch.float32) for t in (*states, gradient))
    query *= scale
    low_query, low_key, low_back = (t.to(low) for t in (query, key, back))
    totals = torch.zeros_like(key), torch.zeros_like(value)
    parts = []
    for block in tree.blocks:
        weights = block.weights(query, key)
        slopes = block.of(back) @ block.seen(value).transpose(1, 2)
        slopes = torch._softmax_backward_data(slopes, weights, 2, torch.float32).to(low)
        parts.append(slopes @ block.seen(low_key))
        block.seen(totals[0]).add_(slopes.transpose(1, 2) @ block.of(low_query))
        block.seen(totals[1]).add_(weights.to(low).transpose(1, 2) @ block.of(low_back))
    return torch.cat(parts, dim=1).mul_(scale), *totals
