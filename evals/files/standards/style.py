"""What style control counts in an answer, and how two answers differ in it.

(T. Li et al., Arena-Hard-Auto, after Chatbot Arena's style control of August 2024.) Lengths differ
by (a - b) / (a + b). Headers, list items and bold texts are taken per token, d = count / (tokens +
1), and differ by (d_a - d_b) / (d_a + d_b + 1).
"""

import re
from collections.abc import Mapping
from typing import Any

FEATURES = ("length", "headers", "lists", "bold")

Counts = tuple[float, float, float, float]
"""Tokens, headers, list items, bold texts of one answer."""

_CODE = re.compile(r"```[^`]*```")
_HEADER = re.compile(r"^#{1,6}\s", re.MULTILINE)
_LIST = re.compile(r"^[^\S\n]*(?:\d+\.|[-*+])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")
_TOKEN = re.compile(r"\w+|[^\w\s]")


def counts_of(text: str) -> Counts:
    """Of a text, its words and punctuation marks being the tokens; code blocks hold no markdown."""
    shown = _CODE.sub("", text)
    marks = (len(pattern.findall(shown)) for pattern in (_HEADER, _LIST, _BOLD))
    headers, lists, bold = marks
    return float(len(_TOKEN.findall(text))), float(headers), float(lists), float(bold)


def published_counts(metadata: Mapping[str, Any]) -> Counts | None:
    """Of the `metadata` that answer files bring; None where it says something else."""
    values: list[float] = []
    for name in ("token_len", "header_count", "list_count", "bold_count"):
        value = metadata.get(name)
        parts = list(value.values()) if isinstance(value, Mapping) else [value]
        known = [float(part) for part in parts if isinstance(part, int | float)]
        if not parts or len(known) < len(parts):
            return None
        values.append(sum(known))
    return values[0], values[1], values[2], values[3]


def difference(one: Counts, other: Counts) -> tuple[float, ...]:
    """How the first answer differs from the second: one number for each of FEATURES."""
    total = one[0] + other[0]
    densities = [
        (a / (one[0] + 1), b / (other[0] + 1)) for a, b in zip(one[1:], other[1:], strict=True)
    ]
    marks = [(a - b) / (a + b + 1) for a, b in densities]
    return ((one[0] - other[0]) / total if total else 0.0, *marks)
