"""Flash attention over runs of tokens end to end, with log-sum-exps: one kernel per device.

All tensors are (tokens, heads, d), log-sum-exps (heads, tokens) in float32. Run i of the queries
sees run i of the keys: whole, or where `causal` every query what is not after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

States = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Segments:
    """Runs of tokens end to end. `starts` int32 (n + 1,) on the device, `ends` the same here."""

    starts: Tensor
    ends: Sequence[int]
    longest: int

    @classmethod
    def ending_at(cls, ends: Sequence[int], device: torch.device) -> "Segments":
        """Runs from 0 to the first end, from there to the second, and so on."""
        bounds = [0, *ends]
        longest = max(b - a for a, b in pairwise(bounds))
        return cls(torch.tensor(bounds, dtype=torch.int32, device=device), bounds, longest)


@dataclass(frozen=True)
class Runs:
    """Which runs of queries see which runs of keys, and how: scores are scaled by `scale`."""

    queries: Segments
    keys: Segments
    scale: float
    causal: bool


def every_head(states: States) -> States:
    """Key and value repeated for every query head that shares them."""
    query, key, value = states
    shared = query.shape[1] // key.shape[1]
    if shared == 1:
        return states
    return query, key.repeat_interleave(shared, dim=1), value.repeat_interleave(shared, dim=1)


class FlashKernel(Protocol):
    """Attention over runs on one kind of device."""

    @staticmethod
    def forward(states: States, runs: Runs) -> tuple[Tensor, Tensor]:
        """Output and log-sum-exp of (query, key, value); key and value may have fewer heads."""

    @staticmethod
    def backward(
        gradient: Tensor, states: States, output: Tensor, lse: Tensor, runs: Runs
    ) -> list[Tensor]:
        """Gradients of query, key and value, given that of the output."""


class RunByRun:
    """torch's flash attention for CPUs, one call per run: no padding, and no mask.

    Every run is read into float32, where it stays in a core's cache: the kernel is no faster in
    bfloat16, and less exact.
    """

    @staticmethod
    def forward(states: States, runs: Runs) -> tuple[Tensor, Tensor]:
        """See `FlashKernel`."""
        attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        query, key, value = states
        output = torch.empty(query.shape, dtype=query.dtype)
        lse = torch.empty(query.shape[1], query.shape[0])
        for at, seen in _slices(runs):
            run = [_heads_first(t) for t in (query[at], key[seen], value[seen])]
            part, part_lse = attend(*run, 0.0, runs.causal, scale=runs.scale)
            output[at] = part[0].transpose(0, 1)
            lse[:, at] = part_lse[0]
        return output, lse

    @staticmethod
    def backward(
        gradient: Tensor, states: States, output: Tensor, lse: Tensor, runs: Runs
    ) -> list[Tensor]:
        """See `FlashKernel`."""
        differentiate = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        query, key, value = states
        found = [torch.empty(t.shape, dtype=t.dtype) for t in states]
        for at, seen in _slices(runs):
            read = (gradient[at], query[at], key[seen], value[seen], output[at])
            run = [_heads_first(t) for t in read]
            parts = differentiate(*run, lse[None, :, at], 0.0, runs.causal, scale=runs.scale)
            for total, place, part in zip(found, (at, seen, seen), parts, strict=True):
                total[place] = part[0].transpose(0, 1)
        return found


def _slices(runs: Runs) -> list[tuple[slice, slice]]:
    queries, keys = ([slice(a, b) for a, b in pairwise(s.ends)] for s in (runs.queries, runs.keys))
    return list(zip(queries, keys, strict=True))


def _heads_first(states: Tensor) -> Tensor:
    return states.transpose(0, 1).unsqueeze(0).float()


class AllRuns:
    """FlashAttention-2 for runs of any length (Dao 2023, arXiv:2307.08691), one call for all."""

    @staticmethod
    def forward(states: States, runs: Runs) -> tuple[Tensor, Tensor]:
        """See `FlashKernel`."""
        output, lse, *_ = torch.ops.aten._flash_attention_forward(
            *(t.contiguous() for t in states), *_bounds(runs), 0.0, runs.causal, False,
            scale=runs.scale,
        )  # fmt: skip
        return output, lse

    @staticmethod
    def backward(
        gradient: Tensor, states: States, output: Tensor, lse: Tensor, runs: Runs
    ) -> list[Tensor]:
        """See `FlashKernel`."""
        read = (t.contiguous() for t in (gradient, *states, output, lse))
        unused = torch.zeros(2, dtype=torch.uint64, device=gradient.device)  # dropout's state
        return list(
            torch.ops.aten._flash_attention_backward(
                *read, *_bounds(runs), 0.0, runs.causal, unused, unused, scale=runs.scale
            )
        )


def _bounds(runs: Runs) -> tuple[Tensor, Tensor, int, int]:
    return runs.queries.starts, runs.keys.starts, runs.queries.longest, runs.keys.longest


KERNELS: dict[str, type[FlashKernel]] = {"cpu": RunByRun, "cuda": AllRuns}
