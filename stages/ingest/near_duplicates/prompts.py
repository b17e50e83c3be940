"""Every prompt that was read, once, a few thousand at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.ingest.frames.seen import Seen
from stages.ingest.near_duplicates.keys import id_keys, places_among
from stages.ingest.splits import ORDER
from stages.ingest.tables.row_cache import Unit
from stages.ingest.tables.table_writers import first_sights

_PROMPTS = 2048


@dataclass(frozen=True)
class Prompts:
    """Some prompts: their ids, texts, and how strictly each is held out, as in `splits.ORDER`."""

    ids: pl.Series
    texts: pl.Series
    levels: NDArray[np.uint8]


def read_prompts(units: Sequence[Unit], moved: Mapping[str, str]) -> Iterator[Prompts]:
    """The prompts in reading order.

    Args:
        units: what was read.
        moved: the split of prompts, by id, whose rows say different ones.

    Memory is that of 2,048 prompts and of `columnar.seen` for all of them.
    """
    stricter = {
        level: id_keys(sorted(id_ for id_, to in moved.items() if to == split))
        for level, split in enumerate(ORDER)
    }
    content = pl.element().struct.field("content")
    text = pl.col("prompt").list.eval(content).list.join("\n").alias("text")
    for frame in _new_prompts(units):
        for some in frame.iter_slices(_PROMPTS):
            ids = some["prompt_id"]
            levels = _levels(some["split"])
            for level, keys in stricter.items():
                if len(keys):
                    levels[places_among(keys, id_keys(ids)) >= 0] = level
            yield Prompts(ids, some.select(text)["text"], levels)


def _levels(splits: pl.Series) -> NDArray[np.uint8]:
    codes = {split: level for level, split in enumerate(ORDER)}
    levels: NDArray[np.uint8] = splits.replace_strict(codes, return_dtype=pl.UInt8).to_numpy()
    return levels.copy()


def _new_prompts(units: Sequence[Unit]) -> Iterator[pl.DataFrame]:
    """Piece by piece the prompts that were not there before: prompt_id, split, prompt."""
    seen = Seen()
    for rows in (rows for unit in units for rows in unit.batches("rows")):
        new = first_sights(seen, rows["prompt_id"])
        frame = pl.DataFrame(pl.from_arrow(rows.select(["prompt_id", "split", "prompt"])))
        yield frame.filter(pl.Series(new, dtype=pl.Boolean))
