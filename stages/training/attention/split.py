"""Tree attention in two parts that are merged by their log-sum-exps: nothing is computed twice.

Own part: a prompt with its first branch is a causal run, and so is every further branch by itself;
together they cover the row. Crossing part: further branches see the whole of their prompt. Softmax
over the keys of both is the parts' outputs weighted by exp(lse - merged lse), and the backward of
a part is that of its kernel, given the merged output and log-sum-exp (as in ring attention, Liu et
al. 2023, arXiv:2310.01889).

The same code runs everywhere; devices differ in one kernel (`flash_kernels`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from stages.training.attention.flash_kernels import KERNELS, Runs, Segments, States, every_head


@dataclass(frozen=True)
class Crossing:
    """Runs of queries that see runs of keys, whole: int64 places of both in the row."""

    query_places: Tensor
    key_places: Tensor
    queries: Segments
    keys: Segments

    @classmethod
    def of(cls, pairs: Sequence[tuple[range, range]], device: torch.device) -> "Crossing":
        """From (places of the queries, places of the keys that all of them see)."""

        def laid_out(runs: Sequence[range]) -> tuple[Tensor, Segments]:
            places = torch.tensor([place for run in runs for place in run], device=device)
            return places, Segments.ending_at(list(accumulate(map(len, runs))), device)

        query_places, queries = laid_out([query for query, _ in pairs])
        key_places, keys = laid_out([key for _, key in pairs])
        return cls(query_places, key_places, queries, keys)


def has_kernel(query: Tensor, value: Tensor) -> bool:
    """Whether attention in parts runs on this device, in this number format and head size."""
    if query.shape[-1] != value.shape[-1]:
        return False
    if query.device.type == "cuda":
        return query.dtype in (torch.bfloat16, torch.float16) and query.shape[-1] <= 256
    return query.device.type == "cpu"


def attention_in_parts(
    states: States, own: Segments, crossing: Crossing | None, scale: float
) -> Tensor:
    """Query, key and value (tokens, heads or kv heads, d) to (tokens, heads, d)."""
    if states[0].device.type == "cpu":
        states = every_head(states)
    result: Tensor = _InParts.apply(*states, own, crossing, scale)  # type: ignore[no-untyped-call]
    return result


class _InParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *states, own, ctx.crossing, ctx.scale = arguments
        ctx.own = Runs(own, own, ctx.scale, causal=True)
        output, lse = _forward((states[0], states[1], states[2]), ctx.own, ctx.crossing)
        ctx.save_for_backward(*states, output, lse)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        query, key, value, output, lse = ctx.saved_tensors
        states = (query, key, value)
        found = _backward(gradients[0], states, output, lse, ctx.own, ctx.crossing)
        return (*found, None, None, None)


def _forward(states: States, own: Runs, crossing: Crossing | None) -> tuple[Tensor, Tensor]:
    """Merged output and log-sum-exp."""
    kernel = KERNELS[states[0].device.type]
    output, lse = kernel.forward(states, own)
    if crossing is not None:
        runs = Runs(crossing.queries, crossing.keys, own.scale, causal=False)
        more, more_lse = kernel.forward(_crossing_states(states, crossing), runs)
        _merge(output, lse, crossing.query_places, more, more_lse)
    return output, lse


def _merge(output: Tensor, lse: Tensor, places: Tensor, more: Tensor, more_lse: Tensor) -> None:
    """Fold the output of further keys into that of the queries at `places`, in place."""
    before = lse[:, places]
    merged = torch.logaddexp(before, more_lse)
    weights = [(part - merged).exp_().T.unsqueeze(2) for part in (before, more_lse)]
    output[places] = (output[places] * weights[0] + more * weights[1]).to(output.dtype)
    lse[:, places] = merged


def _backward(
    gradient: Tensor,
    states: States,
    output: Tensor,
    lse: Tensor,
    own: Runs,
    crossing: Crossing | None,
) -> list[Tensor]:
    """Gradients of query, key and value."""
    kernel = KERNELS[gradient.device.type]
    found = kernel.backward(gradient, states, output, lse, own)
    if crossing is not None:
        at, seen = crossing.query_places, crossing.key_places
        runs = Runs(crossing.queries, crossing.keys, own.scale, causal=False)
        read = _crossing_states(states, crossing)
        more = kernel.backward(gradient[at], read, output[at], lse[:, at], runs)
        for total, index, part in zip(found, (at, seen, seen), more, strict=True):
            total.index_add_(0, index, part)
    return found


def _crossing_states(states: States, crossing: Crossing) -> States:
    query, key, value = states
    places = crossing.key_places
    return query[crossing.query_places], key[places], value[places]
