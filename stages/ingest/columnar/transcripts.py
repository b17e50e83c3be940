"""HH transcripts in whole columns: `parse_hh` for the rows where nothing is in doubt."""

from collections.abc import Mapping

import polars as pl

from stages.ingest.columnar.frames import comparisons_frame

_MARK = "\x1e"
# Markers look like it, and Python's str.strip takes the others for white space.
_DOUBTFUL = "[\x1c-\x1f]"


def with_marks(rows: pl.DataFrame, marks: Mapping[str, str]) -> pl.DataFrame:
    """Rows of two texts with the marks put in; texts with doubtful characters are left out."""
    names = ("chosen", "rejected")
    if any(rows.schema.get(name) != pl.String for name in names):
        return pl.DataFrame(schema={"row": pl.Int64, **dict.fromkeys(names, pl.String)})
    plain = [pl.col(n).is_not_null() & ~pl.col(n).str.contains(_DOUBTFUL) for n in names]
    return rows.filter(*plain).with_columns(
        pl.col(*names).str.replace_many(list(marks), list(marks.values()))
    )


def read_transcripts(rows: pl.DataFrame) -> pl.DataFrame:
    """The comparisons of `row`, `chosen`, `rejected` (marked texts), where nothing is in doubt.

    In doubt are: a text before the first marker, a first turn of the assistant or a last one of
    the human, histories that are not the same bytes, and turns that say nothing.
    """
    chosen, rejected = pl.col("chosen"), pl.col("rejected").cast(pl.Binary)
    cut = rows.with_columns(turns=chosen.str.split(_MARK)).with_columns(
        last=pl.col("turns").list.last()
    )
    # The history ends with the mark of the last turn.
    length = chosen.str.len_bytes() - pl.col("last").str.len_bytes()
    # Only where the histories are the same is that a place between characters in both.
    same = cut.filter(chosen.cast(pl.Binary).bin.slice(0, length) == rejected.bin.slice(0, length))
    clean = same.with_columns(other=rejected.bin.slice(length).cast(pl.String)).filter(
        pl.col("last").str.starts_with("a")
        & pl.col("other").str.starts_with("a")
        & ~pl.col("other").str.contains(_MARK, literal=True)
        & (pl.col("turns").list.first() == "")
        & pl.col("turns").list.get(1, null_on_oob=True).str.starts_with("u")
    )
    turns = pl.col("turns").list
    return comparisons_frame(
        clean.select(
            "row",
            prompt=turns.slice(1, turns.len() - 2).list.eval(_message(pl.element())),
            a=pl.col("last").str.slice(1).str.strip_chars(),
            b=pl.col("other").str.slice(1).str.strip_chars(),
        ).filter(
            (pl.col("a") != "")
            & (pl.col("b") != "")
            & (pl.col("a") != pl.col("b"))
            & pl.col("prompt").list.eval(pl.element().struct.field("content") != "").list.all()
        ),
        chosen_first=True,
    )


def _message(turn: pl.Expr) -> pl.Expr:
    user = turn.str.starts_with("u")
    return pl.struct(
        role=pl.when(user).then(pl.lit("user")).otherwise(pl.lit("assistant")),
        content=turn.str.slice(1).str.strip_chars(),
    )
