"""Anthropic HH-RLHF: two whole transcripts a row, `chosen` and `rejected`, alike up to the end."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import polars as pl

from schemas.labels import Message, Preference
from stages.ingest.datasets.config import HHDataset
from stages.ingest.examples import (
    ComparisonExample,
    RowError,
    check_comparison,
    split_history,
    text_field,
)
from stages.ingest.frames.texts import Places, Texts
from stages.ingest.frames.transcripts import read_transcripts, transcript_columns
from stages.ingest.readers.sources import FileReader

# Only a marker after a blank line begins a turn: "Human:" inside an answer is text.
_MARKER = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


class HHReader(FileReader[HHDataset]):
    """Rows of HH."""

    flat_fields: ClassVar[tuple[str, ...]] = ("chosen", "rejected")
    table_fields: ClassVar[tuple[str, ...]] = ("chosen", "rejected")

    def parse(self, row: Mapping[str, Any]) -> ComparisonExample:
        """One row as a comparison. Raises RowError."""
        return parse_hh(row)

    def read_flat(self, rows: Places, texts: Mapping[str, Texts]) -> pl.DataFrame:
        """The rows without doubt, in whole columns."""
        return read_transcripts(rows, texts["chosen"], texts["rejected"])

    def read_table(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The same for columns of a table."""
        return transcript_columns(rows)


def parse_hh(row: Mapping[str, Any]) -> ComparisonExample:
    """Read both transcripts; the prompt is all they share, up to the last turn. Raises RowError."""
    if "transcript" in row and "chosen" not in row:
        raise RowError("red_team_attempt", "a transcript alone: there is nothing to compare it to")
    chosen = transcript(text_field(row, "chosen"), "chosen")
    rejected = transcript(text_field(row, "rejected"), "rejected")
    prompt, completion_a, completion_b = split_history(chosen, rejected)
    example = ComparisonExample(
        prompt, completion_a, completion_b, label=Preference.A, chosen_first=True
    )
    return check_comparison(example, "chosen", "rejected")


def transcript(text: str, name: str) -> list[Message]:
    """The turns of a transcript.

    Raises:
        RowError: no turn marker, text before the first, or the assistant speaks first.
    """
    before, *parts = _MARKER.split(text)
    if not parts:
        raise RowError("no_turns", f"{name} has no turn marker")
    if before.strip():
        raise RowError("text_before_first_turn", f"{name} begins with {before[:40]!r}")
    if parts[0] != "Human":
        raise RowError("starts_with_assistant", f"{name} begins with the assistant")
    return [
        {"role": _ROLES[speaker], "content": content.strip()}
        for speaker, content in zip(parts[::2], parts[1::2], strict=True)
    ]
