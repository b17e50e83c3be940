"""Tree attention on a CPU: matrix products over whole runs of keys, by blocks of queries.

A tree is short, so the scores of a block of its queries fit into a core's cache, and plain products
with a softmax between them take half the time of torch's flash attention for CPUs, whose own are
small. Query heads that share keys are rows of one product, so no key or value is repeated for them.
Nothing is merged: a row of scores has all keys that its query sees.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stages.training.attention.flash_kernels import States
from stages.training.attention.places import Places
from stages.training.engines.precision import matmul_precision

_BLOCK_QUERIES = 64

# A score that softmax makes an exact zero of; infinities are slow.
_UNSEEN = -1e30


@dataclass(frozen=True)
class Run:
    """A branch behind its prompt: `keys` in order, the last `queries` of which are asked here.

    The first branch of a tree asks for its prompt too, which stands before it.
    """

    keys: Sequence[slice]
    queries: slice

    @property
    def num_keys(self) -> int:
        """Tokens of prompt and branch."""
        return sum(at.stop - at.start for at in self.keys)

    def read(self, states: Tensor, dtype: torch.dtype) -> Tensor:
        """(tokens, heads, d) of the pack to (heads, keys, d), a view where it can be one."""
        parts = [states[at] for at in self.keys]
        joined = parts[0] if len(parts) == 1 else torch.cat(parts)
        return joined.transpose(0, 1).to(dtype, memory_format=torch.contiguous_format, copy=True)

    def add(self, pack: Tensor, states: Tensor) -> None:
        """The way back, added to what is there."""
        start = 0
        for at in self.keys:
            stop = start + at.stop - at.start
            pack[at] += states[:, start:stop].transpose(0, 1)
            start = stop

    def blocks(self) -> Iterator[tuple[slice, int]]:
        """Places of a few queries in the pack, and how many keys the last of them sees."""
        origin = self.queries.stop - self.num_keys
        for start in range(self.queries.start, self.queries.stop, _BLOCK_QUERIES):
            stop = min(start + _BLOCK_QUERIES, self.queries.stop)
            yield slice(start, stop), stop - origin


def runs_of(places: Sequence[Places]) -> list[Run]:
    """The branches of all trees."""
    return [run for place in places for run in _runs(place)]


def _runs(place: Places) -> Iterator[Run]:
    prompt = slice(place.prompt.start, place.prompt.stop)
    first, *further = (slice(branch.start, branch.stop) for branch in place.branches)
    whole = slice(prompt.start, first.stop)
    yield Run([whole], whole)
    for branch in further:
        yield Run([prompt, branch], branch)


def attention_in_blocks(states: States, runs: Sequence[Run], scale: float) -> Tensor:
    """Query, key and value (tokens, heads or kv heads, d) to (tokens, heads, d of value).

    Tokens of no run get zeros. Scores and their gradients are float32, as in FlashAttention-2
    (Dao 2023, arXiv:2307.08691); what they are multiplied with is in the format of the value.
    """
    result: Tensor = _InBlocks.apply(*states, runs, scale)  # type: ignore[no-untyped-call]
    return result


class _InBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        query, key, value, ctx.runs, ctx.scale = arguments
        ctx.save_for_backward(query, key, value)
        output: Tensor = value.new_zeros(query.shape[:2] + value.shape[2:])
        scores = _Scores(ctx.runs, query)
        with _exact_enough(value):
            for run in ctx.runs:
                _attend(run, (query, key, value), output, scores, ctx.scale)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        states = ctx.saved_tensors
        query, key, value = (torch.zeros(t.shape, dtype=t.dtype) for t in states)
        found = query, key, value
        scores = _Scores(ctx.runs, states[0])
        with _exact_enough(states[2]):
            for run in ctx.runs:
                _differentiate(run, gradients[0], states, found, scores, ctx.scale)
        return (*found, None, None)


def _attend(run: Run, states: States, output: Tensor, scores: "_Scores", scale: float) -> None:
    query, low = states[0], states[2].dtype
    keys, values = run.read(states[1], torch.float32), run.read(states[2], low)
    for at, seen in run.blocks():
        asked = _scaled(query[at], keys, scale)
        weights = scores.weights(asked, keys[:, :seen], at.stop - at.start)
        output[at] = _by_token(weights.to(low) @ values[:, :seen], at)


def _differentiate(
    run: Run,
    gradient: Tensor,
    states: States,
    totals: States,
    scores: "_Scores",
    scale: float,
) -> None:
    """Add the run's gradients of query, key and value; the weights are computed again.

    With weights p = softmax(s): d s = p * (d p - sum(p * d p)).
    """
    query, low = states[0], states[2].dtype
    keys, values = (run.read(t, torch.float32) for t in states[1:])
    low_keys = keys.to(low)
    slopes_of_keys, slopes_of_values = torch.zeros_like(keys), torch.zeros_like(values)
    for at, seen in run.blocks():
        asked = _scaled(query[at], keys, scale)
        back = _by_head(gradient[at], keys.shape[0])
        weights = scores.weights(asked, keys[:, :seen], at.stop - at.start)
        slopes = scores.slopes(back.float(), values[:, :seen], weights).to(low)
        part = slopes @ low_keys[:, :seen]
        totals[0][at] = _by_token(part.mul_(scale), at)
        _add_product(slopes_of_keys[:, :seen], slopes, asked.to(low))
        _add_product(slopes_of_values[:, :seen], weights.to(low), back)
    run.add(totals[1], slopes_of_keys)
    run.add(totals[2], slopes_of_values)


def _add_product(total: Tensor, rows: Tensor, states: Tensor) -> None:
    """total (heads, keys, d) += rows (heads, queries, keys) transposed times states."""
    if rows.dtype == total.dtype:
        total.baddbmm_(rows.transpose(1, 2), states)
    else:
        total += rows.transpose(1, 2) @ states


class _Scores:
    """Scores of one block of queries after another, in the same memory."""

    def __init__(self, runs: Sequence[Run], query: Tensor) -> None:
        rows = _BLOCK_QUERIES * query.shape[1]
        longest = max((seen for run in runs for _, seen in run.blocks()), default=0)
        self._memory = [torch.empty(rows * longest) for _ in range(2)]
        self._later = torch.full([_BLOCK_QUERIES] * 2, _UNSEEN).triu_(1)

    def weights(self, queries: Tensor, keys: Tensor, count: int) -> Tensor:
        """Softmax of scores (kv heads, rows, keys) of `count` queries: theirs are the last keys."""
        scores = self._product(0, queries, keys)
        by_head = scores.view(scores.shape[0], -1, count, scores.shape[2])
        own = by_head[..., keys.shape[1] - count :]
        own += self._later[:count, :count]
        weights: Tensor = torch.softmax(scores, 2, out=scores)
        return weights

    def slopes(self, gradient: Tensor, values: Tensor, weights: Tensor) -> Tensor:
        """Gradient of the scores, given that of the output and the weights."""
        slopes = self._product(1, gradient, values)
        found: Tensor = torch.ops.aten._softmax_backward_data.out(
            slopes, weights, 2, torch.float32, grad_input=slopes
        )
        return found

    def _product(self, which: int, rows: Tensor, states: Tensor) -> Tensor:
        shape = (rows.shape[0], rows.shape[1], states.shape[1])
        out = self._memory[which][: math.prod(shape)].view(shape)
        return torch.bmm(rows, states.transpose(1, 2), out=out)


def _exact_enough(value: Tensor) -> AbstractContextManager[None]:
    """Products of numbers that are rounded to bfloat16 anyway may be as exact as that."""
    low = value.dtype == torch.bfloat16
    return matmul_precision("medium" if low else torch.get_float32_matmul_precision())


def _scaled(queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """(queries, heads, d) to float32 (kv heads, query heads of each * queries, d)."""
    return _by_head(queries, keys.shape[0]).float().mul_(scale)


def _by_head(states: Tensor, kv_heads: int) -> Tensor:
    """(queries, heads, d) to a copy (kv heads, query heads of each * queries, d)."""
    count, heads, width = states.shape
    split = states.reshape(count, kv_heads, heads // kv_heads, width).permute(1, 2, 0, 3)
    copy: Tensor = split.clone(memory_format=torch.contiguous_format)
    return copy.view(kv_heads, -1, width)


def _by_token(states: Tensor, at: slice) -> Tensor:
    """The way back."""
    queries = at.stop - at.start
    split = states.view(states.shape[0], -1, queries, states.shape[2]).permute(2, 0, 1, 3)
    return split.flatten(1, 2)
