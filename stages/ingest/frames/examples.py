"""Examples of all kinds as one polars frame, whoever has read them."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from schemas.labels import Messages
from schemas.tables import ANNOTATIONS, PLAIN_MESSAGES, REFERENCE_COLUMNS, TEMPLATE_COLUMNS
from stages.ingest.examples import ComparisonExample, DemonstrationExample, Example, RatedExample
from stages.ingest.filters.texts import text
from stages.ingest.frames.texts import Places

Flags = NDArray[np.bool_]

RICH = ("prompt_rich", "a_rich", "b_rich")
"""Columns with the whole turns as JSON, where they have more than role and content, or where a
completion is more than one turn. They are null for nearly all rows."""
# A comparison has `a` and `b`, a demonstration `a`, a prompt neither: the texts of completions. An
# answer that is good or bad by itself has `a` with label A or B.
EXAMPLES = pa.schema(
    [
        ("row", pa.int64()),
        ("prompt", PLAIN_MESSAGES),
        ("a", pa.string()),
        ("b", pa.string()),
        ("label", pa.string()),
        ("strength", pa.float64()),
        ("annotations", ANNOTATIONS),
        ("category", pa.string()),
        ("language", pa.string()),
        ("label_source", pa.string()),
        ("chosen_first", pa.bool_()),
        *((name, pa.string()) for name in RICH),
        *((name, pa.string()) for name in sorted(TEMPLATE_COLUMNS | REFERENCE_COLUMNS)),
    ]
)


def no_rows(schema: pa.Schema) -> pl.DataFrame:
    """An empty frame of an Arrow schema."""
    # Its own empty_table would import pandas, which costs more than reading 10,000 rows.
    return pl.DataFrame(pl.from_arrow(pa.Table.from_batches([], schema)))


EMPTY: pl.DataFrame = no_rows(EXAMPLES)
"""A frame of no examples: its schema is every such frame's."""


def examples_frame(rows: Sequence[tuple[int, Example]]) -> pl.DataFrame:
    """Examples with their row numbers as a frame. Raises UnicodeEncodeError for half characters."""
    listed = [_values(row, example) for row, example in rows]
    return pl.DataFrame(listed, schema=EMPTY.schema, orient="row")


def _values(row: int, example: Example) -> dict[str, Any]:
    values: dict[str, Any] = {
        "row": row,
        "prompt": [{name: turn[name] for name in ("role", "content")} for turn in example.prompt],
        "prompt_rich": _rich(example.prompt, is_completion=False),
        "tools": example.template.tools,
        "chat_template_kwargs": example.template.chat_template_kwargs,
        "annotations": [],
        "category": example.category,
        "language": example.language,
        "chosen_first": False,
        "reference": getattr(example, "reference", None),
    }
    if isinstance(example, DemonstrationExample | RatedExample):
        values["a"] = text(example.completion)
        values["a_rich"] = _rich(example.completion)
        if isinstance(example, RatedExample):
            values["label"] = "A" if example.good else "B"
    elif isinstance(example, ComparisonExample):
        values |= {
            "a": text(example.completion_a),
            "b": text(example.completion_b),
            "a_rich": _rich(example.completion_a),
            "b_rich": _rich(example.completion_b),
            "label": example.label.value,
            "strength": example.strength,
            "annotations": [
                {
                    "annotator": said.annotator,
                    "label": said.label.value,
                    "strength": said.strength,
                    "reason": said.reason,
                    "feedback_a": said.feedback_a,
                    "feedback_b": said.feedback_b,
                }
                for said in example.annotations
            ],
            "label_source": example.label_source,
            "chosen_first": example.chosen_first,
        }
    return values


def _rich(turns: Messages, *, is_completion: bool = True) -> str | None:
    """The turns as JSON, where role and content are not all of them."""
    if all(len(turn) == 2 for turn in turns) and not (is_completion and len(turns) > 1):
        return None
    return json.dumps(list(turns), ensure_ascii=False)


def comparisons_frame(columns: pl.DataFrame, **constants: Any) -> pl.DataFrame:
    """`row`, `prompt`, `a`, `b` and whatever else is given, filled up to the whole schema.

    Label A by a human where nothing else is said.
    """
    constants = {"label": "A", "label_source": "human", "annotations": [], **constants}
    return pl.DataFrame(
        [
            columns[name].cast(dtype)
            if name in columns.columns
            else pl.Series(name, [constants.get(name)], dtype).new_from_index(0, len(columns))
            for name, dtype in EMPTY.schema.items()
        ]
    )


def lists_of_turns(role: pl.Series, content: pl.Series, ends: Places) -> pl.Series:
    """Turns as conversations, each up to its end; nothing is copied."""
    turns = pl.DataFrame({"role": role, "content": content}).to_struct()
    bounds = pa.py_buffer(np.concatenate(([0], ends)).astype(np.int64))
    lists = pa.LargeListArray.from_arrays(
        pa.Array.from_buffers(pa.int64(), len(ends) + 1, [None, bounds]),
        turns.to_arrow(compat_level=pl.CompatLevel.newest()),
    )
    return pl.Series(pl.from_arrow(lists))


def turns_of(conversations: pl.Series) -> tuple[pl.DataFrame, Places]:
    """The turns of lists, none of them null or empty, one after the other, and where each ends."""
    lengths = conversations.list.len().to_numpy()
    return conversations.explode().struct.unnest(), np.cumsum(lengths, dtype=np.int64)


def any_in(flags: Flags, ends: Places) -> Flags:
    """Whether there is a flag in each of the stretches that end there."""
    counts = np.concatenate(([0], np.cumsum(flags)))
    found: Flags = np.diff(counts[ends], prepend=0) > 0
    return found


def those(rows: pl.DataFrame, flags: Flags) -> pl.DataFrame:
    """The flagged rows."""
    return rows if flags.all() else rows.filter(pl.Series(flags))
