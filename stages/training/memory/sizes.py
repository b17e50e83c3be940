"""The sizes that the memory of a training follows from, for the code and for its estimate."""

from collections.abc import Mapping

from stages.training.config import StateFormat, TrainingConfig

_BUDGETS = {
    "cpu": {"float32": 1024, "bfloat16": 2048},
    "cuda": {"float32": 4096, "bfloat16": 4096},
}
"""Tokens of a packed forward pass where the recipe does not say.

On a CPU in float32 the smallest of 512, 1,024, 2,048 and 4,096 that is at most a tenth slower than
the fastest, on a tiny model and on layers of SmolLM2-135M's: tests/benchmarks/bench_defaults.py.
Its results are of a busy machine, where the same pack measured twice differs by an eighth. The
other numbers were not measured that way.
"""

TILE_BYTES = {"cpu": 2**26, "cuda": 2**30}
"""Logits of a tile; those of one item may take twice as much before they are made a second time.

Larger tiles make matrix products a little faster, fewer items' logits twice, and the peak higher.
"""

LEAST_TILE_TOKENS = 64

STATE_BLOCK = 256
"""Numbers of an 8-bit moment that share a scale, as bitsandbytes has them."""

LEAST_STATE_NUMBERS = 4096
"""A moment with fewer numbers is not worth 8 bits."""


def pack_budget(training: TrainingConfig, device: str) -> int:
    """Tokens that a packed forward pass may have."""
    by_device = _BUDGETS.get(device, _BUDGETS["cpu"])
    return training.tokens_per_micro_batch or by_device[training.dtype]


def tile_tokens(device: str, row_bytes: int) -> int:
    """Completion tokens whose logits are there together."""
    return max(LEAST_TILE_TOKENS, TILE_BYTES.get(device, TILE_BYTES["cpu"]) // row_bytes)


def state_bytes(states: StateFormat, sizes: Mapping[int, int]) -> int:
    """Bytes of both moments of parameters, given how many there are of each size."""
    return sum(2 * count * _moment_bytes(states, size) for size, count in sizes.items())


def _moment_bytes(states: StateFormat, size: int) -> int:
    if states == "int8" and size >= LEAST_STATE_NUMBERS:
        return size + 4 * -(-size // STATE_BLOCK)
    return size * (4 if states == "float32" else 2)
