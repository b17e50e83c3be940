"""What sampling and scoring take in memory, from a model's shape and the lengths."""

from evals.memory.shape import WIDTH, ModelShape
from schemas.work import Bill

ASSUMED_PROMPT = 512
"""Tokens of a prompt where nothing says how long they are."""

ASSUMED_COMPARISON = 2048
"""Tokens of a comparison that a judge reads, likewise."""

_LEAST_CONTEXT = 16


def sampling_bill(
    shape: ModelShape, dtype: str, rows: int, max_tokens: int, max_model_len: int | None
) -> Bill:
    """Transformers writing completions of `rows` prompts at once, with a cache.

    The peak is at the end, where one layer's cache is copied to grow, or where prompts are read.
    """
    width = WIDTH[dtype]
    limit = min(n for n in (shape.positions, max_model_len, ASSUMED_PROMPT + max_tokens) if n)
    prompt = max(limit - max_tokens, _LEAST_CONTEXT)
    cache = shape.cache_bytes(rows * limit, width)
    read = shape.cache_bytes(rows * prompt, width) + round(rows * prompt * _forward(shape, width))
    growing = cache + cache // shape.layers + _logits(shape, rows)
    cheaper = {
        f"runtime.sampler_batch_size = {fewer}": sampling_bill(
            shape, dtype, fewer, max_tokens, max_model_len
        ).total
        for fewer in (rows // 4,)
        if fewer
    }
    parts = {"weights": shape.weight_bytes(dtype), "cache": cache}
    parts["activations"] = max(read, growing) - cache
    about = f"{rows} rows of up to {limit:,} tokens, {max_tokens:,} of them written"
    return Bill(parts, about, cheaper)


def scoring_bill(shape: ModelShape, dtype: str, rows: int, most_tokens: int | None) -> Bill:
    """Transformers reading `rows` comparisons at once, of which it predicts one token each."""
    width = WIDTH[dtype]
    tokens = min(n for n in (shape.positions, most_tokens or ASSUMED_COMPARISON) if n)
    parts = {
        "weights": shape.weight_bytes(dtype),
        "activations": round(rows * tokens * _forward(shape, width)) + _logits(shape, rows),
    }
    cheaper = {}
    if fewer := rows // 4:
        less = scoring_bill(shape, dtype, fewer, most_tokens).total
        cheaper[f"runtime.judge_batch_size = {fewer}"] = less
    return Bill(parts, f"{rows} rows of up to {tokens:,} tokens", cheaper)


def served_bill(shape: ModelShape, dtype: str, cache: int) -> Bill:
    """An engine that sets a fixed room for keys and values aside."""
    return Bill({"weights": shape.weight_bytes(dtype), "cache": cache}, "vLLM")


def _forward(shape: ModelShape, width: float) -> float:
    """Bytes of a token within a layer that keeps nothing for a backward pass."""
    inside = (3 if shape.gated else 2) * shape.mlp * shape.active
    return (2 * shape.hidden + max(inside, 4 * shape.attended)) * width


def _logits(shape: ModelShape, rows: int) -> int:
    """Logits of one token a row: as they come, in double precision, and normalised."""
    return rows * shape.vocab * (4 + 8 + 8)
