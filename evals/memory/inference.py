"""What sampling and scoring take in memory, from a model's shape and the lengths."""

from evals.memory.shape import WIDTH, ModelShape
from schemas.work import Bill

ASSUMED_PROMPT = 512
"""Tokens of a prompt where nothing says how long they are."""

ASSUMED_COMPARISON = 2048
"""Tokens of a comparison that a judge reads, likewise."""

_LEAST_CONTEXT = 16


def sampling_bill(
    shape: ModelShape,
    dtype: str,
    rows: int,
    max_tokens: int,
    max_model_len: int | None,
    repeats: int = 1,
) -> Bill:
    """Transformers writing completions at once, `rows` of them, of each prompt `repeats`.

    A prompt is read once. The peak is there, or at the end, where one layer's cache is copied to
    grow.
    """
    width = WIDTH[dtype]
    limits = (shape.positions, max_model_len or ASSUMED_PROMPT + max_tokens)
    limit = min(n for n in limits if n)
    prompt = max(limit - max_tokens, _LEAST_CONTEXT)
    distinct = -(-rows // repeats)
    cache = shape.cache_bytes(rows * limit, rows, width)
    read = shape.cache_bytes(distinct * prompt, distinct, width)
    read += round(distinct * prompt * _forward(shape, width, prompt))
    read += round(distinct * prompt**2 * _MASK if distinct > 1 and shape.attending else 0)
    growing = cache + max(_unfolded(shape, rows * limit, width), cache // shape.layers)
    cheaper = {
        f"runtime.sampler_batch_size = {fewer}": sampling_bill(
            shape, dtype, fewer, max_tokens, max_model_len, repeats
        ).total
        for fewer in (rows // 4,)
        if fewer
    }
    parts = {"weights": shape.weight_bytes(dtype), "cache": cache}
    parts["activations"] = max(read, growing + _logits(shape, rows)) - cache
    about = f"{rows} rows of up to {limit:,} tokens, {max_tokens:,} of them written"
    return Bill(parts, about, cheaper)


def scoring_bill(shape: ModelShape, dtype: str, rows: int, most_tokens: int | None) -> Bill:
    """Transformers reading `rows` comparisons at once, of which it predicts one token each."""
    width = WIDTH[dtype]
    tokens = min(n for n in (shape.positions, most_tokens or ASSUMED_COMPARISON) if n)
    activations = rows * tokens * _forward(shape, width, tokens)
    parts = {
        "weights": shape.weight_bytes(dtype),
        "activations": round(activations) + _logits(shape, rows),
    }
    cheaper = {}
    if fewer := rows // 4:
        less = scoring_bill(shape, dtype, fewer, most_tokens).total
        cheaper[f"runtime.judge_batch_size = {fewer}"] = less
    return Bill(parts, f"{rows} rows of up to {tokens:,} tokens", cheaper)


def served_bill(shape: ModelShape, dtype: str, cache: int) -> Bill:
    """An engine that sets a fixed room for keys and values aside."""
    return Bill({"weights": shape.weight_bytes(dtype), "cache": cache}, "vLLM")


# Embeddings, the layer's input, its stream after mixing, and that normalised.
_STREAMS = 4
# Where rows are padded, which tokens may see which: as it is made, and as attention takes it.
_MASK = 1 + 4


def _forward(shape: ModelShape, width: float, length: int) -> float:
    """Bytes of a token within a layer that keeps nothing for a backward pass."""
    mixing = [(mixer.within + mixer.scores * length) for _, mixer in shape.mixers]
    mixing += [4 * shape.attended] if shape.attending else []
    inside = (3 if shape.gated else 2) * shape.inside
    return (_STREAMS * shape.hidden + max(inside, *mixing)) * width


def _unfolded(shape: ModelShape, tokens: int, width: float) -> int:
    """What a layer makes of all that is cached, to read it."""
    return round(tokens * max((mixer.unfolded for _, mixer in shape.mixers), default=0) * width)


def _logits(shape: ModelShape, rows: int) -> int:
    """Logits of one token a row: as they come, in double precision, and normalised."""
    return rows * shape.vocab * (4 + 8 + 8)
