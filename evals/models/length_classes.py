"""Models that turn positions differently in long texts: which rows may share a forward pass.

LongRoPE (Ding et al. 2024, arXiv:2402.13753) has two sets of frequencies, and transformers picks
one for a whole pass by its longest row, so a short row would be read as a long one beside it.
(Dynamic NTK changes beyond the model's own limit only, where nothing of ours is let.)
"""

from collections.abc import Iterator, Sequence
from typing import Any

_SWITCHING = "longrope"


def switching_length(model: Any) -> int | None:
    """Tokens up to which a row is short for this model; None where length makes no difference."""
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]
    own = getattr(config, "original_max_position_embeddings", None)
    lengths = [
        kind.get("original_max_position_embeddings") or own
        for kind in kinds
        if kind.get("rope_type", kind.get("type")) == _SWITCHING
    ]
    return min((int(n) for n in lengths if n), default=None)


def by_length_class(lengths: Sequence[int], switch: int | None) -> Iterator[list[int]]:
    """Indices of the rows that may share a pass, in one or two groups; none is empty."""
    if switch is None:
        yield list(range(len(lengths)))
        return
    for is_long in (False, True):
        group = [i for i, length in enumerate(lengths) if (length > switch) == is_long]
        if group:
            yield group
