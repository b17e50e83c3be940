"""Which output an annotator was shown first, and the preference that its log-probabilities give."""

import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

from schemas.labels import Order

_SAME = 1e-6


def preference_from_logprobs(
    first: float | None, second: float | None, *, model_first: bool
) -> float | None:
    """The preference that the log-probabilities of "first is better" and "second is" come to.

    1 + p(model), p the share of its token in both; a missing token has none. None where both miss.

    Args:
        first: log-probability of the token that names the output shown first.
        second: of the one that names the output shown second.
        model_first: whether the model's output was shown first.
    """
    if first is None and second is None:
        return None
    one = -math.inf if first is None else first
    two = -math.inf if second is None else second
    top = max(one, two)
    share = math.exp(one - top) / (math.exp(one - top) + math.exp(two - top))
    return 1 + share if model_first else 2 - share


def hashed_order(instruction: str) -> Order:
    """The order in which AlpacaEval shows the outputs: drawn from the instruction's text.

    The same for every model, so that the judge's bias for a place does not average out.
    """
    drawn = random.Random(f"is_switched_outputs{instruction}0").choices([False, True], k=1)[0]
    return Order.AB if drawn else Order.BA


def shown_order(row: Mapping[str, Any], preference: float | None) -> Order:
    """The order that the kept log-probabilities prove, else the one AlpacaEval would draw."""
    first, second = _logprobs(row.get("raw_completion"))
    if preference is not None and (first is not None or second is not None):
        told = {
            order: preference_from_logprobs(first, second, model_first=order is Order.AB)
            for order in Order
        }
        fits = [o for o, p in told.items() if p is not None and abs(p - preference) < _SAME]
        if len(fits) == 1:
            return fits[0]
    return hashed_order(row["instruction"])


def _logprobs(raw: Any) -> tuple[float | None, float | None]:
    """Log-probabilities of the tokens m (shown first) and M of the judge's only token."""
    try:
        found = {t["token"]: float(t["logprob"]) for t in _top_logprobs(raw)}
    except (KeyError, TypeError, ValueError, IndexError):
        return None, None
    return found.get("m"), found.get("M")


def _top_logprobs(raw: Any) -> Iterator[Mapping[str, Any]]:
    yield from raw["logprobs"]["content"][0]["top_logprobs"]
