"""What a table holds, in numbers: the data card, computed column by column with polars."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from evals.models.token_lengths import token_lengths
from schemas.errors import DataError
from schemas.files import first_line

Card = dict[str, Any]

# Columns whose values are few and worth counting.
_COUNTED = (
    "source",
    "split",
    "label",
    "label_source",
    "category",
    "judge",
    "verdict",
    "unscored_reason",
    "finish_reason",
    "reason",
)
_MOST = 20  # values listed of one column; the rest are added up
# The two sides of a row, and how it says which one was preferred.
_PAIR = {"chosen", "rejected"}
_COMPARED = {"completion_a", "completion_b", "label"}


def data_card(path: Path, tokenizer: Path | None = None) -> Card:
    """The card of one Parquet table.

    `counts` are rows by value, `numbers` the spread of every float column, `characters` the
    length of every conversation in characters (code points, all turns together), `tokens` the
    same in the tokenizer's tokens where one is given, over a sample of a large table, and
    `prompts_repeated` the rows beyond the first of their prompt. `chosen_longer` is the share of
    preferred answers that are the longer one, equal lengths counted half, ties left out.
    `by_source` says rows, ties, A's share of the others, mean strength and `chosen_longer` of
    every source of a table of comparisons.

    Raises:
        DataError: the file is not Parquet or cannot be read, or that is no tokenizer.
    """
    try:
        frame = pl.scan_parquet(path, glob=False)
        schema = frame.collect_schema()
        talks = [name for name, kind in schema.items() if _is_conversation(kind)]
        card = _counted(frame, schema)
        card["numbers"] = {
            name: _spread(frame, pl.col(name)) for name, kind in schema.items() if kind.is_float()
        }
        card["characters"] = {name: _spread(frame, _characters(name)) for name in talks}
        if tokenizer is not None and talks and card["rows"]:
            card["tokens"] = _tokens(token_lengths(path, talks, tokenizer))
        return card | _preferences(frame, set(schema))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {first_line(error)}") from error


def _counted(frame: pl.LazyFrame, schema: pl.Schema) -> Card:
    """Rows, rows by value, and rows that repeat a prompt."""
    counts = {name: _value_counts(frame, name) for name in _COUNTED if name in schema}
    card: Card = {"rows": _one(frame.select(pl.len())), "counts": counts}
    if "prompt_id" in schema and card["rows"]:
        prompts = _one(frame.select("prompt_id").unique().count())
        card["prompts_repeated"] = card["rows"] - prompts
    return card


def _tokens(lengths: Mapping[str, Sequence[int]]) -> Card:
    return {
        name: _spread(pl.LazyFrame({name: values}), pl.col(name))
        for name, values in lengths.items()
    }


def _preferences(frame: pl.LazyFrame, columns: set[str]) -> Card:
    """What only tables with a preferred side have."""
    card: Card = {}
    compared = columns >= _COMPARED
    if compared or columns >= _PAIR:
        longer = frame.select(_longer(compared=compared).mean())
        card["chosen_longer"] = longer.collect().item()
    if compared and columns >= {"source", "strength"}:
        card["by_source"] = _by_source(frame)
    return card


def _one(frame: pl.LazyFrame) -> int:
    return int(frame.collect().item())


def _value_counts(frame: pl.LazyFrame, name: str) -> dict[str, int]:
    counted = frame.group_by(pl.col(name).fill_null("(none)")).len()
    rows = counted.sort(["len", name], descending=[True, False]).collect().rows()
    rest = sum(count for _, count in rows[_MOST:])
    return dict(rows[:_MOST]) | ({f"({len(rows) - _MOST} more)": rest} if rest else {})


def _spread(frame: pl.LazyFrame, values: pl.Expr) -> dict[str, float | int | None]:
    """Mean, quantiles and range of what is not null; quantiles are values that occur."""
    row = frame.select(
        values.count().alias("count"),
        values.mean().alias("mean"),
        values.min().alias("min"),
        values.quantile(0.5, "nearest").alias("p50"),
        values.quantile(0.95, "nearest").alias("p95"),
        values.max().alias("max"),
    )
    return row.collect().row(0, named=True)


def _is_conversation(kind: pl.DataType) -> bool:
    inner = kind.inner if isinstance(kind, pl.List) else None
    return isinstance(inner, pl.Struct) and {f.name for f in inner.fields} >= {"role", "content"}


def _characters(name: str) -> pl.Expr:
    lengths = pl.element().struct.field("content").str.len_chars()
    return pl.col(name).list.eval(lengths).list.sum()


def _longer(*, compared: bool) -> pl.Expr:
    """1 where the preferred answer is the longer one, 0.5 where both are as long; null for ties."""
    if compared:
        first, second = _characters("completion_a"), _characters("completion_b")
        is_first = pl.col("label") == "A"
        chosen = pl.when(is_first).then(first).otherwise(second)
        rejected = pl.when(is_first).then(second).otherwise(first)
    else:
        chosen, rejected = _characters("chosen"), _characters("rejected")
    longer = (chosen > rejected).cast(pl.Float64) + (chosen == rejected).cast(pl.Float64) / 2
    return pl.when(pl.col("label").is_in(["A", "B"])).then(longer) if compared else longer


def _by_source(frame: pl.LazyFrame) -> dict[str, Card]:
    label = pl.col("label")
    decided = label.is_in(["A", "B"])
    counted = frame.group_by("source").agg(
        pl.len().alias("rows"),
        (label == "Tie").sum().alias("ties"),
        label.is_null().sum().alias("unlabelled"),
        (label == "A").filter(decided).mean().alias("a_share"),
        pl.col("strength").mean().alias("strength"),
        _longer(compared=True).mean().alias("chosen_longer"),
    )
    rows = counted.sort(["rows", "source"], descending=[True, False]).collect().to_dicts()
    return {row.pop("source"): row for row in rows}
