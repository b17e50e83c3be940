"""Training prompts that overlap an evaluation set: found by runs of equal words.

A prompt is contaminated where `ngram` words in a row stand in an evaluation text, or where it is
one, word for word. What overlaps is quoted in the reject.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from evals.files.opening.remote import data_files
from schemas.errors import DataError
from stages.ingest.examples import RowError
from stages.ingest.near_duplicates.config import Decontaminate
from stages.ingest.near_duplicates.keys import id_keys, places_among
from stages.ingest.near_duplicates.prompts import Prompts
from stages.ingest.near_duplicates.words import Words, hash_words, mix, split_words
from stages.ingest.readers.raw_rows import read_raw_rows

# Where evaluation sets keep what they ask, in the order of preference.
_COLUMNS = ("prompt", "instruction", "question", "turns", "input", "text", "messages", "context")
_QUOTED_WORDS = 40
_LIKELY_BITS = 22


def texts_of(settings: Decontaminate) -> list[str]:
    """All texts of the evaluation set, in the order of its files.

    Raises:
        DataError: a file cannot be read, has no such column, or no text in it.
    """
    files = data_files(settings.path)
    return [text for file, path in files for text in _texts_of_file(settings, file, path)]


def _texts_of_file(settings: Decontaminate, file: str, path: Path) -> list[str]:
    rows = list(_rows(file, path))
    column = settings.column or next(
        (name for name in _COLUMNS if any(name in row for row in rows)), None
    )
    texts = [text for row in rows if (text := text_of(row.get(column or "")))]
    if not texts:
        known = sorted({name for row in rows for name in row})
        raise DataError(
            f"{file}: no text in {column or 'any of ' + ', '.join(_COLUMNS)} (it has "
            f"{', '.join(known[:8]) or 'no rows'}); set column in [[ingest.decontaminate]]"
        )
    return texts


def text_of(value: Any) -> str:
    """The words of a text, a message, or a list of either; nothing for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return text_of(value.get("content"))
    return "\n".join(filter(None, map(text_of, value))) if isinstance(value, list) else ""


class EvaluationSet:
    """The words of one evaluation set, to compare any number of prompts with."""

    def __init__(self, settings: Decontaminate, texts: Sequence[str] | None = None) -> None:
        """`texts` are read from the settings' path unless they are given."""
        self.name = settings.name or settings.path
        self._ngram = settings.ngram
        words = hash_words(texts_of(settings) if texts is None else texts)
        self._runs = np.unique(words.windows(self._ngram).hashes)
        self._whole = np.unique(_wholes(words))
        # The first bits of every run that counts: most windows are passed over by one look.
        self._likely = np.zeros(1 << _LIKELY_BITS, bool)
        self._likely[self._runs >> np.uint64(64 - _LIKELY_BITS)] = True

    def overlaps(self, texts: Sequence[str] | pl.Series, words: Words) -> dict[int, RowError]:
        """Index of every contaminated text -> the reject that quotes what overlaps.

        Args:
            texts: the prompts.
            words: their `hash_words`.
        """
        windows = words.windows(self._ngram)
        likely = np.flatnonzero(self._likely[windows.hashes >> np.uint64(64 - _LIKELY_BITS)])
        hits = likely[np.isin(windows.hashes[likely], self._runs)]
        owners = np.searchsorted(windows.offsets, hits, side="right") - 1
        found: dict[int, RowError] = {}
        for text in np.unique(owners).tolist():
            at = hits[owners == text] - windows.offsets[text]
            found[text] = self._quote(texts[text], _first_run(at, self._ngram))
        equal = np.isin(_wholes(words), self._whole) & (np.diff(words.offsets) > 0)
        for text in np.flatnonzero(equal).tolist():
            if text not in found:
                found[text] = self._quote(texts[text], slice(0, None))
        return found

    def _quote(self, text: str, run: slice) -> RowError:
        shared = split_words(text)[run]
        shown = " ".join(shared[:_QUOTED_WORDS]) + (" ..." if len(shared) > _QUOTED_WORDS else "")
        return RowError(
            "eval_contamination", f"shares {len(shared)} words with {self.name}: {shown}"
        )


class Overlaps:
    """The training prompts that overlap any evaluation set; memory is that of those found."""

    def __init__(self, evaluations: Sequence[Decontaminate]) -> None:
        """Raises DataError, MissingInputError where an evaluation set cannot be read."""
        self._evaluations = [EvaluationSet(settings) for settings in evaluations]
        self._found: dict[str, RowError] = {}

    def add(self, prompts: Prompts, words: Words) -> None:
        """Look at more prompts, with the words of their texts."""
        for evaluation in self._evaluations:
            for index, error in evaluation.overlaps(prompts.texts, words).items():
                if not prompts.levels[index]:
                    self._found.setdefault(prompts.ids[index], error)

    def of_training(self, held_out: NDArray[np.bytes_]) -> dict[str, RowError]:
        """Prompt id -> what it shares, but for prompts that join dev or test (ascending keys).

        What is held out is not trained on, whatever it says.
        """
        places = places_among(held_out, id_keys(self._found))
        return {i: e for (i, e), at in zip(self._found.items(), places, strict=True) if at < 0}


def _first_run(starts: Any, ngram: int) -> slice:
    """The words of the first unbroken run of overlapping windows."""
    first = last = int(starts[0])
    for start in starts[1:]:
        if start > last + ngram:
            break
        last = int(start)
    return slice(first, last + ngram)


def _wholes(words: Words) -> Any:
    """[texts] one hash for all the words of each text; texts without words are 0."""
    place = np.arange(len(words.hashes)) - np.repeat(words.offsets[:-1], np.diff(words.offsets))
    placed = mix(words.hashes + mix(place.astype(np.uint64)))
    prefix = np.concatenate((np.zeros(1, np.uint64), np.cumsum(placed)))
    return prefix[words.offsets[1:]] - prefix[words.offsets[:-1]]


def _rows(file: str, path: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of a file of any format that ingest reads."""
    for row in read_raw_rows(path, file):
        if isinstance(row.value, RowError):
            raise DataError(f"{file} row {row.row}: {row.value.detail}; mend or leave out the file")
        yield row.value
