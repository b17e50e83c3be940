"""Attention over packed trees: every completion sees its prompt and itself, nothing else.

Everything but attention runs once per token of the pack. Attention alone gathers queries, keys and
values into sequences `prompt + branch`, of similar length side by side, and runs torch's causal
kernel on them: no mask of the whole pack exists. It enters transformers under the name
`prefline_tree` through the attention and the mask registry; `TreeAttention` travels as a keyword
argument of the model.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NAME = "prefline_tree"

# Arguments of attention functions that change the result in a way which is not done here.
_UNKNOWN_HERE = ("softcap", "s_aux", "sinks", "position_bias", "head_mask")


class CannotShareError(Exception):
    """The model's attention asks for something that this one does not do."""


@dataclass(frozen=True)
class TreeAttention:
    """How the tokens of a pack form sequences.

    `gather` int64 (n,): for every place of the padded sequences, group by group, the token that
    stands there (padding, on the right, repeats token 0 and is never read). `scatter` int64
    (tokens,): the place among those n that a token's result is taken from. `shapes`: rows and
    length of each group.
    """

    gather: "Tensor"
    scatter: "Tensor"
    shapes: Sequence[tuple[int, int]]

    @classmethod
    def over(
        cls, sequences: Sequence[Sequence[int]], num_tokens: int, device: "torch.device"
    ) -> "TreeAttention":
        """`sequences` hold places of tokens in the pack, each prompt followed by one branch."""
        import torch

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
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)


def _attention(
    module: Any,
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    attention_mask: "Tensor | None",
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    tree: TreeAttention | None = None,
    **kwargs: Any,
) -> "tuple[Tensor, None]":
    """query (1, heads, tokens, d), key and value (1, kv heads, tokens, d) to (1, tokens, heads, d).

    Raises:
        CannotShareError: soft-capping, sinks, dropout, a prepared mask, or no tree was given.
    """
    import torch
    import torch.nn.functional as F

    unknown = [name for name in _UNKNOWN_HERE if kwargs.get(name) is not None]
    if tree is None or unknown or dropout or attention_mask is not None:
        raise CannotShareError(f"attention with {', '.join(unknown) or 'dropout or a mask'}")
    heads, dtype = query.shape[1], query.dtype
    if query.device.type == "cpu":
        query, key, value = query.float(), key.float(), value.float()
    sequences = [_gathered(states, tree) for states in (query, key, value)]
    results = []
    for q, k, v in zip(*sequences, strict=True):
        window = _window(q.shape[2], sliding_window, q.device)
        attended = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=window,
            is_causal=window is None,
            scale=scaling,
            enable_gqa=k.shape[1] != heads,
        )
        results.append(attended.transpose(1, 2).reshape(-1, heads * v.shape[-1]))
    merged = F.embedding(tree.scatter, torch.cat(results)).to(dtype)
    return merged.view(1, len(tree.scatter), heads, -1), None


def _gathered(states: "Tensor", tree: TreeAttention) -> "list[Tensor]":
    """(1, heads, tokens, d) as (rows, heads, length, d) of each group.

    An embedding look-up is an index whose backward is one pass over the tokens.
    """
    import torch
    import torch.nn.functional as F

    _, heads, tokens, size = states.shape
    flat = F.embedding(tree.gather, states.transpose(1, 2).reshape(tokens, heads * size))
    parts = torch.split(flat, [rows * length for rows, length in tree.shapes])
    return [
        part.view(rows, length, heads, size).transpose(1, 2)
        for part, (rows, length) in zip(parts, tree.shapes, strict=True)
    ]


def _window(length: int, size: int | None, device: "torch.device") -> "Tensor | None":
    """Which keys a query sees, bool (length, length); None where that is all before it."""
    import torch

    if size is None or length <= size:
        return None
    places = torch.arange(length, device=device)
    distance = places[:, None] - places[None, :]
    return (distance >= 0) & (distance < size)
