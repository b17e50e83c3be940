"""HH transcripts in whole columns: `parse_hh` for the rows where nothing is in doubt.

Turns are cut where the markers stand in the bytes, before anything is made of them: a history that
is the same in both transcripts is read once.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.ingest.frames.examples import (
    EMPTY,
    Flags,
    any_in,
    comparisons_frame,
    lists_of_turns,
    those,
)
from stages.ingest.frames.texts import DOUBTFUL, Places, Texts, texts_of

_HUMAN, _ASSISTANT = b"Human:", b"Assistant:"
_SIX_BYTES = np.uint64((1 << 48) - 1)


def transcript_columns(rows: pl.DataFrame) -> pl.DataFrame:
    """The comparisons of columns `row`, `chosen`, `rejected`, where nothing is in doubt."""
    sides = ("chosen", "rejected")
    if any(rows.schema.get(name) != pl.String for name in sides):
        return EMPTY
    whole = rows.select("row", *sides).drop_nulls()
    plain = (texts_of(whole[name]) for name in sides)
    return read_transcripts(whole["row"].to_numpy(), *plain)


def read_transcripts(rows: Places, chosen: Texts, rejected: Texts) -> pl.DataFrame:
    """The comparisons of [n] rows and their two transcripts, where nothing is in doubt.

    In doubt are: a text before the first marker, a first turn of the assistant or a last one of
    the human, histories that are not the same bytes, and turns that say nothing.
    """
    markers = _markers(chosen)
    others = markers if rejected.data is chosen.data else _markers(rejected)
    a, b = _cut(chosen, markers), _cut(rejected, others)
    good = np.flatnonzero(a.readable & b.readable & (a.history_bytes == b.history_bytes))
    rows, a, b = rows[good], a.take(good), b.take(good)
    same = np.flatnonzero((a.history().raw() == b.history().raw()).to_numpy())
    rows, a, b = rows[same], a.take(same), b.take(same)
    if not len(rows):
        return EMPTY
    turns, ends = _history_turns(a)
    texts = {"a": _stripped(a.last()), "b": _stripped(b.last())}
    prompts = lists_of_turns(turns["role"], turns["content"], ends)
    frame = pl.DataFrame({"row": rows, **texts, "prompt": prompts})
    mute = any_in(turns["mute"].to_numpy(), ends)
    answers = (pl.col("a") != "") & (pl.col("b") != "") & (pl.col("a") != pl.col("b"))
    sound = frame.select(answers.fill_null(False)).to_series().to_numpy() & ~mute
    return comparisons_frame(those(frame, sound), chosen_first=True)


@dataclass(frozen=True)
class _Markers:
    """The markers in a buffer: where each begins and ends, and whether the human speaks next.

    One more stands at the end, so that there is something to look at behind the last.
    """

    starts: Places
    ends: Places
    human: Flags


@dataclass(frozen=True)
class _Transcripts:
    """[n] texts, and which markers are theirs: from `first` to before `after`."""

    texts: Texts
    markers: _Markers
    first: Places
    after: Places

    @property
    def readable(self) -> Flags:
        """[n] which begin with the human and end with the assistant."""
        found: Flags = (
            (self.after - self.first >= 2)
            & (self.markers.starts[self.first] == self.texts.starts)
            & self.markers.human[self.first]
            & ~self.markers.human[self.after - 1]
            # In a column, texts touch: a marker may begin in one and end in the next.
            & (self.markers.ends[self.after - 1] <= self.texts.ends)
        )
        return found

    @property
    def history_bytes(self) -> Places:
        """[n] lengths up to the end of the last marker."""
        lengths: Places = self.markers.ends[self.after - 1] - self.texts.starts
        return lengths

    def take(self, at: Places) -> "_Transcripts":
        """Some of them."""
        texts = self.texts.between(self.texts.starts[at], self.texts.ends[at])
        return _Transcripts(texts, self.markers, self.first[at], self.after[at])

    def history(self) -> Texts:
        """[n] all up to the last turn, its marker included."""
        return self.texts.between(self.texts.starts, self.markers.ends[self.after - 1])

    def last(self) -> Texts:
        """[n] the last turns."""
        return self.texts.between(self.markers.ends[self.after - 1], self.texts.ends)


def _cut(texts: Texts, markers: _Markers) -> _Transcripts:
    begins = markers.starts[:-1]
    first, after = (np.searchsorted(begins, at) for at in (texts.starts, texts.ends))
    return _Transcripts(texts, markers, first, after)


def _markers(texts: Texts) -> _Markers:
    width = 2 if texts.escaped else 1
    pairs = texts.breaks[:-1][np.diff(texts.breaks) == width]
    # Eight bytes are compared at once; the whole of the longer name, where they are its first.
    size = len(memoryview(texts.data))
    pairs = pairs[pairs + 2 * width + 8 <= size]
    eights: NDArray[np.uint64] = np.ndarray(max(size - 7, 0), "<u8", texts.data, strides=(1,))
    heads = eights[pairs + 2 * width]
    human = heads & _SIX_BYTES == _number(_HUMAN)
    assistant = heads == _number(_ASSISTANT[:8])
    at = np.flatnonzero(assistant)
    tails = pairs[at] + 2 * width + len(_ASSISTANT) - 8
    inside = tails + 8 <= size
    assistant[at] = inside
    assistant[at[inside]] = eights[tails[inside]] == _number(_ASSISTANT[-8:])
    found = human | assistant
    starts, human = pairs[found], human[found]
    ends = starts + 2 * width + np.where(human, len(_HUMAN), len(_ASSISTANT))
    return _Markers(np.append(starts, -1), np.append(ends, -1), np.append(human, False))


def _number(name: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(name, "little"))


def _history_turns(of: _Transcripts) -> tuple[pl.DataFrame, Places]:
    """All turns but the last, `mute` where they say nothing, and where each transcript's end."""
    counts = of.after - 1 - of.first
    ends = np.cumsum(counts)
    at = np.repeat(of.first - ends + counts, counts) + np.arange(ends[-1])
    contents = _stripped(of.texts.between(of.markers.ends[at], of.markers.starts[at + 1]))
    roles = pl.when(pl.Series(of.markers.human[at])).then(pl.lit("user"))
    mute = (pl.lit(contents) == "").fill_null(True)
    role = roles.otherwise(pl.lit("assistant"))
    return pl.select(role=role, content=contents, mute=mute), ends


def _stripped(texts: Texts) -> pl.Series:
    """The texts without white space at their ends, null where that is in doubt."""
    plain = texts.plain().str.strip_chars()
    # No escape of two bytes stands for a doubtful character.
    return plain if texts.escaped else plain.set(plain.str.contains(DOUBTFUL), None)
