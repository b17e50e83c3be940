"""Seeded draws from next-token distributions.

Draws are counter-based: the uniform number of a completion's step is a hash of its seed and the
step, so no generator state exists that the batch around it could disturb.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from evals.models.samplers.config import SamplingSettings

BLOCK = 256
FIRST_TOKENS = 256


def uniforms(seeds: Sequence[int], steps: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Uniform numbers in [0, 1), `[seeds, steps]`: splitmix64 of the seed's stream at each step.

    Steele, Lea, Flood (2014), "Fast splittable pseudorandom number generators". The seed itself
    is mixed first, so that the streams of neighbouring seeds have nothing in common.
    """
    golden = np.uint64(0x9E3779B97F4A7C15)
    start = _mix(np.array([s % 2**64 for s in seeds], dtype=np.uint64) + golden)
    counter = np.arange(1, steps + 1, dtype=np.uint64) * golden
    bits = _mix(start[:, None] + counter[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(z: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def draw(
    logits: torch.Tensor, uniform: torch.Tensor, settings: SamplingSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token per row by inverting the cumulative distribution at `uniform`.

    One uniform number per row and step is all it takes, whatever the vocabulary's size.

    Args:
        logits: `[rows, vocabulary]`.
        uniform: `[rows]`, float64 in [0, 1).
        settings: temperature and top_p.

    Returns:
        Token ids `[rows]`, and their log p at temperature 1 without top_p `[rows]`, float64.
    """
    logits = logits.float()
    if settings.temperature == 0:
        chosen = logits.argmax(dim=1, keepdim=True)
    else:
        p = (logits / settings.temperature).softmax(dim=1)
        if settings.top_p < 1:
            p, order = _nucleus(p, settings.top_p)
            chosen = order.gather(1, _invert(p, uniform))
        else:
            chosen = _invert(p, uniform)
    logps = logits.gather(1, chosen).double() - logits.logsumexp(1, keepdim=True).double()
    return chosen.squeeze(1), logps.squeeze(1)


def _nucleus(p: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The most probable tokens that together reach `top_p`: `[rows, k]`, others zero, and ids.

    Looks among the first few hundred, and sorts the whole vocabulary only where these are not
    enough. Holtzman et al. (2020), "The curious case of neural text degeneration", section 3.1.
    """
    first, order = p.topk(min(FIRST_TOKENS, p.shape[1]), dim=1)
    before = first.cumsum(dim=1, dtype=torch.float64) - first
    if first.shape[1] < p.shape[1] and bool((before[:, -1] < top_p).any()):
        first, order = p.sort(dim=1, descending=True, stable=True)
        before = first.cumsum(dim=1, dtype=torch.float64) - first
    return first.masked_fill(before >= top_p, 0), order


def _invert(p: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """The place `[rows, 1]` where the running sum of `p` passes `uniform` times its total.

    First the block of tokens, then the token in it: no running sum over the whole vocabulary.
    """
    blocks = torch.nn.functional.pad(p, (0, -p.shape[1] % BLOCK)).view(len(p), -1, BLOCK)
    masses = blocks.sum(dim=2).double()
    block, rest = _search(masses, uniform[:, None])
    inside = blocks[torch.arange(len(p), device=p.device), block.squeeze(1)].double()
    return block * BLOCK + _search(inside, rest)[0]


def _search(masses: torch.Tensor, fraction: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where a fraction in [0, 1) of the total mass falls, and how far into that mass, in [0, 1].

    A place without mass is never found, whatever the rounding.
    """
    ends = masses.cumsum(dim=1)
    target = fraction * ends[:, -1:]
    last = (ends < ends[:, -1:]).sum(dim=1, keepdim=True)
    place = torch.minimum(torch.searchsorted(ends, target, right=True), last)
    mass = masses.gather(1, place)
    return place, ((target - ends.gather(1, place) + mass) / mass).clamp(0, 1)
