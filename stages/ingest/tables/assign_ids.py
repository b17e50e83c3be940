"""From what was read to rows with ids, splits and sides; duplicates become rejects."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.tables import REJECTS
from stages.ingest.config import IngestConfig
from stages.ingest.examples import RowError
from stages.ingest.filters.apply_filters import screen_frame
from stages.ingest.frames.examples import no_rows
from stages.ingest.frames.identities import (
    hex_keys,
    identity_keys,
    with_dealt_sides,
    with_hash_splits,
    with_ids_of_texts,
    with_own_split,
    with_row_ids,
)
from stages.ingest.frames.seen import Marks, Seen
from stages.ingest.readers.pieces import Piece
from stages.ingest.readers.sources import Source
from stages.ingest.splits import ORDER
from stages.ingest.tables.row_cache import ROWS, Unit

_ROW_BITS, _NOTE_BITS = 40, 2
"""A place is the number of a file, of a row in it, and the note on which answer is better."""
_SPLIT_MARKS = {split: mark for mark, split in enumerate(ORDER)}
_NO_ROWS = no_rows(ROWS)
_REJECTS_SCHEMA = no_rows(REJECTS.schema).schema


class Admission:
    """Admits rows one piece after the other, in reading order, and remembers what was there."""

    def __init__(self, config: IngestConfig, sources: Sequence["Source"]) -> None:
        self._config = config
        self._sources = sources
        self._seen = Seen(np.int64)
        # Only sources with splits of their own can put a prompt into both.
        self._splits = Seen() if any(source.split for source in sources) else None
        self.moved: dict[str, str] = {}
        self._new_moved: dict[str, str] = {}

    def admit(self, number: int, piece: Piece) -> tuple[pl.DataFrame, pa.Table]:
        """Rows, as in `units.ROWS`, and rejects of a piece of source `number`."""
        source = self._sources[number]
        examples, rejects = piece.readings
        filtered, examples = screen_frame(self._config.filters, examples, source.name)
        rejects = sorted([*rejects, *filtered], key=lambda reject: reject[0])
        if len(examples):
            examples = self._identified(examples, source)
            self._note_moved(examples)
            duplicates, examples = self._without_duplicates(examples, number)
            rejects = sorted([*rejects, *duplicates], key=lambda reject: reject[0])
        rows = examples[ROWS.names] if len(examples) else _NO_ROWS
        return rows, reject_rows(source, piece.raw, rejects)

    def restore(self, number: int, unit: Unit) -> None:
        """Remember a unit that an earlier run has finished."""
        self._move(dict(unit.facts.moved))
        for rows in unit.batches("rows"):
            keys = np.stack([rows["key_high"].to_numpy(), rows["key_low"].to_numpy()], axis=1)
            self._seen.add(keys, _places(number, rows["row"].to_numpy(), rows["note"].to_numpy()))
            if self._splits is not None:
                frame = pl.DataFrame(pl.from_arrow(rows.select(["prompt_id", "split"])))
                self._look_up_splits(frame)

    def forget(self) -> None:
        """Free what was kept of every row: nothing more will be admitted."""
        self._seen, self._splits = Seen(np.int64), None

    def take_moved(self) -> list[tuple[str, str]]:
        """Prompts found in several splits since this was last asked, and where they belong."""
        new, self._new_moved = self._new_moved, {}
        self._move(new)
        return sorted(new.items())

    def _move(self, new: Mapping[str, str]) -> None:
        _move_up(self.moved, new)

    def _identified(self, examples: pl.DataFrame, source: Source) -> pl.DataFrame:
        examples = with_ids_of_texts(examples)
        if source.split is not None:
            carved = self._config.dev_fraction if source.carves_dev else 0
            examples = with_own_split(examples, source.split, carved)
        else:
            fractions = (self._config.test_fraction, self._config.dev_fraction)
            examples = with_hash_splits(examples, *fractions)
        if self._config.sides == "dealt" and examples["chosen_first"].any():
            examples = with_dealt_sides(examples, self._config.seed)
        return with_row_ids(examples, derive=source.derives_demonstrations)

    def _note_moved(self, examples: pl.DataFrame) -> None:
        if self._splits is None:
            return
        found, marks = self._look_up_splits(examples)
        differs = (found >= 0) & (found != marks)
        if not differs.any():
            return
        strictest = np.maximum(found, marks)[differs].tolist()
        ids = examples["prompt_id"].filter(pl.Series(differs)).to_list()
        for id_, mark in zip(ids, strictest, strict=True):
            _move_up(self._new_moved, {id_: ORDER[mark]})

    def _look_up_splits(self, examples: pl.DataFrame) -> tuple[Marks, Marks]:
        assert self._splits is not None
        codes = examples["split"].replace_strict(_SPLIT_MARKS, return_dtype=pl.Int8)
        marks = codes.to_numpy()
        return self._splits.add(hex_keys(examples["prompt_id"]), marks), marks

    def _without_duplicates(
        self, examples: pl.DataFrame, number: int
    ) -> tuple[list[tuple[int, RowError]], pl.DataFrame]:
        keys, notes = identity_keys(examples)
        rows = examples["row"].to_numpy()
        found = self._seen.add(keys, _places(number, rows, notes))
        known = {"key_high": keys[:, 0], "key_low": keys[:, 1], "note": notes}
        examples = examples.hstack(pl.DataFrame(known))
        again = np.flatnonzero(found >= 0)
        if not len(again):
            return [], examples
        kinds = examples.select(pl.col("a").is_null(), pl.col("b").is_null()).to_numpy()
        rejects = [
            (int(rows[i]), self._duplicate(int(found[i]), int(notes[i]), *kinds[i]))
            for i in again.tolist()
        ]
        return rejects, examples.filter(pl.Series(found < 0))

    def _duplicate(self, place: int, note: int, no_a: bool, no_b: bool) -> RowError:
        if no_a:
            return RowError("duplicate", "the same prompt is listed before")
        number, row, noted = _parts(place)
        if no_b and noted == note:
            return RowError("duplicate", "the same prompt and completion stand before")
        reason = "duplicate" if noted == note else "contradictory_duplicate"
        where = f"{self._sources[number].file} row {row}"
        return RowError(reason, f"the same texts are compared in {where}")


def _move_up(moved: dict[str, str], new: Mapping[str, str]) -> None:
    """Note where prompts belong: a split once given is only exchanged for a stricter one."""
    for id_, split in new.items():
        if ORDER.index(split) > ORDER.index(moved.get(id_, "train")):
            moved[id_] = split


def _places(number: int, rows: NDArray[np.int64], notes: NDArray[np.int8]) -> NDArray[np.int64]:
    return (number << _ROW_BITS + _NOTE_BITS) + (rows << _NOTE_BITS) + (notes + 1)


def _parts(place: int) -> tuple[int, int, int]:
    """The number of the file, the row, and the note."""
    noted = (place & (1 << _NOTE_BITS) - 1) - 1
    return place >> _ROW_BITS + _NOTE_BITS, place >> _NOTE_BITS & (1 << _ROW_BITS) - 1, noted


def arrow_rows(rows: pl.DataFrame) -> pa.Table:
    """Rows as units keep them."""
    return rows.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(ROWS)


def reject_rows(source: Source, raw: Any, rejects: Sequence[tuple[int, RowError]]) -> pa.Table:
    """Rejected rows, as they were read and with the reason."""
    columns = {
        "table": [source.content] * len(rejects),
        "reason": [error.reason for _, error in rejects],
        "detail": [_encodable(error.detail) for _, error in rejects],
        "file": [_encodable(source.file)] * len(rejects),
        "row": [row for row, _ in rejects],
        "raw": [_encodable(raw(row)) for row, _ in rejects],
    }
    # pa.table would import pandas to ask whether the lists are its own.
    made = pl.DataFrame(columns, schema=_REJECTS_SCHEMA)
    return made.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(REJECTS.schema)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def count_reasons(rejects: pa.Table) -> dict[str, int]:
    """How many rows were rejected for each reason."""
    counts = pc.value_counts(rejects["reason"]).to_pylist()
    return {entry["values"]: entry["counts"] for entry in counts}
