"""Tree attention by whole sequences: gathered, padded to groups of like length, and causal.

Runs on every device, in every number format, and with sliding windows. It computes a prompt once
per branch; `split_attention` does not, where it can run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.training.attention.flash_kernels import States


@dataclass(frozen=True)
class Sequences:
    """How the tokens of a pack form sequences.

    `gather` int64 (n,): for every place of the padded sequences, group by group, the token that
    stands there (padding, on the right, repeats token 0 and is never read). `scatter` int64
    (tokens,): the place among those n that a token's result is taken from. `shapes`: rows and
    length of each group.
    """

    gather: Tensor
    scatter: Tensor
    shapes: Sequence[tuple[int, int]]

    @classmethod
    def over(
        cls, sequences: Sequence[Sequence[int]], num_tokens: int, device: torch.device
    ) -> "Sequences":
        """`sequences` hold places of tokens in the pack, each prompt followed by one branch."""
        gather: list[int] = []
        scatter = [0] * num_tokens
        shapes = []
        for group in _alike(sorted(sequences, key=len, reverse=True)):
            length = len(group[0])
            shapes.append((len(group), length))
            for sequence in group:
                for place, token in enumerate(sequence, start=len(gather)):
                    scatter[token] = place
                gather += sequence
                gather += [0] * (length - len(sequence))
        return cls(
            torch.tensor(gather, device=device), torch.tensor(scatter, device=device), shapes
        )


def _alike(ordered: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Neighbours of an ordered list whose lengths differ by at most an eighth, or 16 tokens."""
    group: list[Sequence[int]] = []
    for sequence in ordered:
        if group and len(group[0]) - len(sequence) > max(16, len(group[0]) // 8):
            yield group
            group = []
        group.append(sequence)
    yield group


def attention_by_sequence(
    states: States, sequences: Sequences, scale: float, window: int | None
) -> Tensor:
    """Query, key and value (tokens, heads or kv heads, d) to (tokens, heads, d).

    On a CPU in float32 whatever comes in: its kernels are no faster in bfloat16.
    """
    heads, dtype = states[0].shape[1], states[0].dtype
    on_cpu = states[0].device.type == "cpu"
    results = []
    gathered = [_gathered(t.float() if on_cpu else t, sequences) for t in states]
    for q, k, v in zip(*gathered, strict=True):
        mask = _window(q.shape[2], window, q.device)
        attended = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            is_causal=mask is None,
            scale=scale,
            enable_gqa=k.shape[1] != heads,
        )
        results.append(attended.transpose(1, 2).reshape(-1, heads * v.shape[-1]))
    merged = F.embedding(sequences.scatter, torch.cat(results)).to(dtype)
    return merged.view(len(sequences.scatter), heads, -1)


def _gathered(states: Tensor, sequences: Sequences) -> list[Tensor]:
    """(tokens, heads, d) as (rows, heads, length, d) of each group.

    An embedding look-up is an index whose backward is one pass over the tokens.
    """
    tokens, heads, size = states.shape
    flat = F.embedding(sequences.gather, states.reshape(tokens, heads * size))
    parts = torch.split(flat, [rows * length for rows, length in sequences.shapes])
    return [
        part.view(rows, length, heads, size).transpose(1, 2)
        for part, (rows, length) in zip(parts, sequences.shapes, strict=True)
    ]


def _window(length: int, size: int | None, device: torch.device) -> Tensor | None:
    """Which keys a query sees, bool (length, length); None where that is all before it."""
    if size is None or length <= size:
        return None
    places = torch.arange(length, device=device)
    distance = places[:, None] - places[None, :]
    return (distance >= 0) & (distance < size)
