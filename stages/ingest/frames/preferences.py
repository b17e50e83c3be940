"""TRL's preference formats in whole columns: `parse_preference` where nothing is in doubt."""

from collections.abc import Sequence

import polars as pl

from schemas.tables import TEMPLATE_COLUMNS
from stages.ingest.datasets.config import PROMPT_FIELDS
from stages.ingest.datasets.own.prompts import BESIDE_PROMPT
from stages.ingest.datasets.own.sides import SIDED_COLUMNS
from stages.ingest.frames.conversations import read_conversations, read_texts
from stages.ingest.frames.examples import EMPTY
from stages.ingest.frames.scores import labelled
from stages.ingest.frames.transcripts import transcript_columns

# Rows that name their sides, and answers that say where they stood, are read one by one.
_SIDED = ("comparison", "chosen_side", *SIDED_COLUMNS)
# What belongs to a prompt, or is one under another name: rows that have it too.
_ONE_BY_ONE = (*BESIDE_PROMPT, *sorted(TEMPLATE_COLUMNS), *PROMPT_FIELDS[1:])


def read_preferences(rows: pl.DataFrame, scores: Sequence[tuple[str, str]]) -> pl.DataFrame:
    """The comparisons of `row`, `chosen`, `rejected` and what else there is, without doubt.

    Read here are a prompt and two answers as text, two conversations alike up to their last turn,
    and transcripts.
    """
    names = ("chosen", "rejected")
    if any(name in rows.columns for name in _SIDED) or not set(names) <= set(rows.columns):
        return EMPTY
    doubtful = [name for name in _ONE_BY_ONE if name in rows.columns]
    if doubtful:
        rows = rows.filter(pl.all_horizontal(pl.col(name).is_null() for name in doubtful))
    rows = _beside(labelled(rows, scores, required=False))
    if "prompt" in rows.columns:
        return read_texts(rows, "prompt", *names)
    if all(rows.schema[name] == pl.String for name in names):
        # parse_hh looks at nothing but the texts.
        transcripts = rows.select("row", *names).filter(
            pl.col("chosen").str.starts_with("\n\nHuman:")
        )
        return transcript_columns(transcripts)
    return read_conversations(rows)


def _beside(rows: pl.DataFrame) -> pl.DataFrame:
    """What a row may say besides, as far as it is text."""
    said = {
        name: pl.col(name) if rows.schema.get(name) == pl.String else pl.lit(None, pl.String)
        for name in ("category", "language", "label_source", "reference")
    }
    known = (
        pl.when(said["label_source"] != "").then(said["label_source"]).otherwise(pl.lit("human"))
    )
    return rows.with_columns(**{**said, "label_source": known})
