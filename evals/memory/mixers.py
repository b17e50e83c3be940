"""What mixes tokens in layers that do not attend in the plain way, and what it takes.

The numbers were read off what torch saves for the backward in transformers' own code, without the
CUDA kernels that some of these have.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mixer:
    """Counts of numbers, of a token in one layer where nothing else is said.

    Attributes:
        linear: inputs and outputs of its linear modules.
        other: its parameters that are in none of these.
        read: what its linear modules read, beside the layer's input.
        kept: what else is kept for the backward, in the format of the pass.
        exact: the same in float32 whatever the format.
        within: what is there together in a forward pass that keeps nothing.
        backward: what the layer's backward takes besides.
        scores: of a token for each token of its row, where attention has no kernel.
        cached: what a sampler keeps of a token.
        unfolded: what a sampler makes of a cached token while the layer is at work.
        state: what a sampler keeps of a row, however long it is, in float32.
        together: tokens that are worked on together; a row is filled up to a multiple of them for
            what is kept in float32.
    """

    linear: tuple[tuple[int, int], ...]
    other: int
    read: int
    kept: int
    within: int
    backward: int
    exact: int = 0
    scores: int = 0
    cached: int = 0
    unfolded: int = 0
    state: int = 0
    together: int = 1

    def filled(self, length: int) -> float:
        """How many times as many tokens a row of so many has when it is filled up."""
        return -(-length // self.together) * self.together / max(length, 1)

    @property
    def parameters(self) -> int:
        """In its matrices."""
        return sum(a * b for a, b in self.linear)


def selective(config: Mapping[str, Any], hidden: int) -> Mixer:
    """Mamba's: every channel has a state, which is written out for every token."""
    inner = int(config.get("intermediate_size") or hidden * config.get("expand", 2))
    states, kernel = int(config.get("state_size", 16)), int(config.get("conv_kernel", 4))
    given = config.get("time_step_rank", "auto")
    rank = -(-hidden // 16) if given == "auto" else int(given)
    steps = inner * states
    return Mixer(
        linear=((hidden, 2 * inner), (inner, rank + 2 * states), (rank, inner), (inner, hidden)),
        other=inner * (kernel + 1 + 1 + states + 1),
        read=2 * inner + rank + 2 * states,
        kept=8 * inner,
        exact=3 * steps,
        within=3 * steps + 8 * inner,
        backward=4 * steps + 4 * inner,
        state=inner * (states + kernel),
    )


def chunked(config: Mapping[str, Any], hidden: int) -> Mixer:
    """Mamba-2's: heads with a state, tokens of a chunk with each other as in attention."""
    heads, size = int(config["num_heads"]), int(config["head_dim"])
    groups, states = int(config.get("n_groups", 8)), int(config.get("state_size", 128))
    kernel, chunk = int(config.get("conv_kernel", 4)), int(config.get("chunk_size", 256))
    inner = heads * size
    convolved = inner + 2 * groups * states
    projected = inner + convolved + heads
    spread, square = heads * states, heads * chunk
    carried = inner * states // chunk  # from chunk to chunk
    return Mixer(
        linear=((hidden, projected), (inner, hidden)),
        other=convolved * (kernel + 1) + 3 * heads + inner,
        read=inner,
        kept=projected + 2 * convolved + 3 * inner,
        exact=5 * inner + 5 * spread + 3 * square + 2 * carried,
        within=projected + convolved + 4 * inner + 4 * spread + 3 * square + 2 * carried,
        backward=4 * inner + 2 * spread + 4 * square,
        state=inner * states + convolved * kernel,
        together=chunk,
    )


def latent(config: Mapping[str, Any], hidden: int) -> Mixer:
    """Multi-head latent attention: keys and values are cached as one small vector a token."""
    heads, rank = int(config["num_attention_heads"]), int(config["kv_lora_rank"])
    turned, plain = int(config["qk_rope_head_dim"]), int(config["qk_nope_head_dim"])
    value, of_query = int(config["v_head_dim"]), int(config.get("q_lora_rank") or 0)
    queries, unfolded = heads * (plain + turned), heads * (plain + value)
    asked = ((hidden, of_query), (of_query, queries)) if of_query else ((hidden, queries),)
    return Mixer(
        linear=(
            *asked,
            (hidden, rank + turned),
            (rank, unfolded),
            (heads * value, hidden),
        ),
        other=of_query + rank,
        read=of_query + rank + heads * value,
        kept=2 * of_query + 2 * rank + turned + 2 * queries + unfolded,
        within=4 * queries + unfolded + heads * turned + 2 * rank + turned,
        backward=2 * queries + unfolded + heads * value,
        scores=2 * heads + heads // 4,
        cached=rank + turned,
        unfolded=unfolded + 2 * queries,
    )


def convolution(config: Mapping[str, Any], hidden: int) -> Mixer:
    """LFM2's: a gated convolution over a few tokens."""
    kernel = int(config.get("conv_L_cache", 3))
    return Mixer(
        linear=((hidden, 3 * hidden), (hidden, hidden)),
        other=hidden * kernel,
        read=hidden,
        kept=5 * hidden,
        within=6 * hidden,
        backward=4 * hidden,
        state=hidden * kernel,
    )
