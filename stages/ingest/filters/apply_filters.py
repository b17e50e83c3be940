"""Filters on examples, one by one and in whole columns."""

import json
from collections.abc import Sequence
from typing import Any

import polars as pl

from schemas.labels import Message, Preference
from stages.ingest.examples import (
    ComparisonExample,
    DemonstrationExample,
    Example,
    PromptExample,
    RatedExample,
    RowError,
)
from stages.ingest.filters.kinds import rule_of


def screen(filters: Sequence[Any], example: Example, source: str) -> RowError | None:
    """What the first rule that objects says, or None where the example passes all of them."""
    for settings in filters:
        found: RowError | None = rule_of(settings).reject(example, source)
        if found is not None:
            return found
    return None


def screen_frame(
    filters: Sequence[Any], examples: pl.DataFrame, source: str
) -> tuple[list[tuple[int, RowError]], "pl.DataFrame"]:
    """Row number and reason of every example that is left out, and the frame of the others.

    Args:
        filters: the rules, in order.
        examples: a frame as in `frames.examples`.
        source: the name of the source.
    """
    if not filters or not len(examples):
        return [], examples
    suspects = examples.select(
        pl.any_horizontal(rule_of(rule).suspects().fill_null(False) for rule in filters).alias(
            "suspect"
        )
    )["suspect"]
    dropped: dict[int, RowError] = {}
    for index in suspects.arg_true().to_list():
        found = screen(filters, _example(examples.row(index, named=True)), source)
        if found is not None:
            dropped[index] = found
    kept = pl.Series([i not in dropped for i in range(len(examples))], dtype=pl.Boolean)
    rejects = [(int(examples["row"][index]), error) for index, error in dropped.items()]
    return rejects, examples.filter(kept)


def _example(row: dict[str, Any]) -> Example:
    """A row of the frame as the example that it was."""
    beside = {"category": row["category"], "language": row["language"]}
    prompt = json.loads(row["prompt_rich"]) if row["prompt_rich"] else row["prompt"]
    if row["a"] is None:
        return PromptExample(prompt, **beside)
    a = _answer(row, "a")
    if row["b"] is None and row["label"] is not None:
        return RatedExample(prompt, a, row["label"] == "A", **beside)
    if row["b"] is None:
        return DemonstrationExample(prompt, a, **beside)
    b = _answer(row, "b")
    return ComparisonExample(prompt, a, b, Preference(row["label"]), row["strength"], **beside)


def _answer(row: dict[str, Any], side: str) -> list[Message]:
    if row[f"{side}_rich"]:
        turns: list[Message] = json.loads(row[f"{side}_rich"])
        return turns
    return [Message(role="assistant", content=row[side])]
