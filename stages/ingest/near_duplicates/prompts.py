"""Every prompt that was read, once, a few thousand at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.ingest.frames.seen import Seen
from stages.ingest.near_duplicates.keys import id_keys, places_among
from stages.ingest.tables.row_cache import Unit
from stages.ingest.tables.table_writers import first_sights

_PROMPTS = 2048


@dataclass(frozen=True)
class Prompts:
    """Some prompts: their ids, texts, and which of them are held out."""

    ids: pl.Series
    texts: pl.Series
    test: NDArray[np.bool_]


def read_prompts(units: Sequence[Unit], held_out: NDArray[np.bytes_]) -> Iterator[Prompts]:
    """The prompts in reading order.

    Args:
        units: what was read.
        held_out: keys of prompts that are held out whatever their split says, ascending.

    Memory is that of 2,048 prompts and of `columnar.seen` for all of them.
    """
    content = pl.element().struct.field("content")
    text = pl.col("prompt").list.eval(content).list.join("\n").alias("text")
    for frame in _new_prompts(units):
        for some in frame.iter_slices(_PROMPTS):
            ids, test = some["prompt_id"], (some["split"] == "test").to_numpy()
            if len(held_out):
                test = test | (places_among(held_out, id_keys(ids)) >= 0)
            yield Prompts(ids, some.select(text)["text"], test)


def _new_prompts(units: Sequence[Unit]) -> Iterator[pl.DataFrame]:
    """Piece by piece the prompts that were not there before: prompt_id, split, prompt."""
    seen = Seen()
    for rows in (rows for unit in units for rows in unit.batches("rows")):
        new = first_sights(seen, rows["prompt_id"])
        frame = pl.DataFrame(pl.from_arrow(rows.select(["prompt_id", "split", "prompt"])))
        yield frame.filter(pl.Series(new, dtype=pl.Boolean))
