"""Labels and strengths from columns of scores, where nothing is in doubt."""

from collections.abc import Collection, Sequence

import polars as pl


def labelled(
    rows: pl.DataFrame, pairs: Sequence[tuple[str, str]], *, required: bool = True
) -> pl.DataFrame:
    """Add `label` and `strength` by the first pair of score columns that is there, even in part.

    Rows stay whose scores are finite numbers and not against the order; without `required`, a
    frame without scores is labelled A by nobody knows how much.
    """
    pair = next((p for p in pairs if p[0] in rows.columns or p[1] in rows.columns), None)
    if pair is None:
        unknown = pl.lit(None, pl.Float64).alias("strength")
        return rows.clear() if required else rows.with_columns(unknown, label=pl.lit("A"))
    if not all(name in rows.columns and _is_number(rows.schema[name]) for name in pair):
        return rows.clear()
    chosen, rejected = (pl.col(name).cast(pl.Float64) for name in pair)
    sane = (chosen.is_finite() & rejected.is_finite() & (chosen >= rejected)).fill_null(False)
    label = pl.when(chosen > rejected).then(pl.lit("A")).otherwise(pl.lit("Tie"))
    scored = rows.lazy().filter(sane).with_columns(label=label, strength=chosen - rejected)
    return scored.collect()


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype in (pl.Float32, pl.Float64)


def without_sources(rows: pl.DataFrame, names: Collection[str]) -> pl.DataFrame:
    """Leave out rows whose `source` says one of these names, in lower case."""
    if rows.schema.get("source") != pl.String:
        return rows
    said = pl.col("source").str.to_lowercase().is_in(list(names))
    return rows.filter(~said.fill_null(False))


def beside(rows: pl.DataFrame, *, category: str, label_source: str) -> pl.DataFrame:
    """Add `category`, where a column of text states it, and `label_source`."""
    is_text = rows.schema.get(category) == pl.String
    said = pl.col(category) if is_text else pl.lit(None, pl.String)
    return rows.with_columns(category=said, label_source=pl.lit(label_source))
