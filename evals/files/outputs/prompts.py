"""Prompts from a file, every one of them: nothing is filtered, split or joined."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.files.opening.formats import format_of
from evals.files.opening.one_file import one_file
from evals.files.opening.places import PACKED
from evals.files.outputs.fields import (
    PROMPT_NAMES,
    category_of,
    found_columns,
    key_of,
    reference_of,
    user_turns,
)
from evals.files.outputs.rows import file_rows
from schemas.errors import DataError
from schemas.ids import content_id, prompt_id
from schemas.labels import Message

_TABLES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".gz")


@dataclass(frozen=True)
class GivenPrompt:
    """A prompt as a file lists it.

    `key` is the file's own name for it. `turn` counts from 0: the second question of an MT-Bench
    row has turn 1, the first question as `prompt`, and itself as `question`. `reference` is an
    answer that the file knows to be good.
    """

    prompt: Sequence[Message]
    key: str | None
    category: str | None
    row: int
    turn: int = 0
    question: Message | None = None
    reference: str | None = None

    @property
    def prompt_id(self) -> str:
        """That of the prompt, and for a later turn one of its own."""
        first = prompt_id(self.prompt)
        if not self.turn:
            return first
        asked = self.question["content"] if self.question else ""
        return content_id("prompt-turn", first, str(self.turn), asked)

    def to_row(self, source: str, file: str) -> dict[str, Any]:
        """The row of the prompts table."""
        return {
            "prompt_id": self.prompt_id,
            "prompt": list(self.prompt),
            "split": "test",
            "category": self.category,
            "reference": self.reference,
            "source": source,
            "file": file,
            "row": self.row,
        }


def read_prompts(path: Path) -> list[GivenPrompt]:
    """The prompts of a file, in its order, those listed twice included.

    A text file has one a line. Of rows, JSON lines or an array, CSV or Parquet, the prompt is
    what stands under `prompt`, `instruction`, `messages` and the like; an array may also be one of
    texts.

    Raises:
        MissingInputError: no such file.
        DataError: a row without a prompt, or nothing in the file; the message names the row.
    """
    path = one_file(str(path), "file of prompts")
    found = list(_prompts(path))
    if not found:
        raise DataError(f"{path}: holds no prompt")
    return found


def _prompts(path: Path) -> Iterator[GivenPrompt]:
    texts = _listed_texts(path)
    if texts is not None:
        for number, text in enumerate(texts):
            if not text.strip():
                raise DataError(f"{path}: row {number}: the prompt says nothing")
            yield GivenPrompt([{"role": "user", "content": text}], None, None, number)
        return
    for number, row in file_rows(path):
        turns = user_turns(path, number, row)
        if not turns:
            raise DataError(
                f"{path}: row {number}: no prompt under any of {', '.join(PROMPT_NAMES)} "
                f"(found {found_columns(row)}); rename the column that holds it to prompt"
            )
        yield from prompts_of_turns(turns, row, number)


def prompts_of_turns(
    turns: Sequence[Sequence[Message]], row: Mapping[str, Any], number: int
) -> Iterator[GivenPrompt]:
    """The prompt of a row, and one for each later question that builds on an answer."""
    for turn, messages in enumerate(turns):
        question = messages[-1] if turn else None
        yield GivenPrompt(
            turns[0], key_of(row), category_of(row), number, turn, question, reference_of(row, turn)
        )


def _listed_texts(path: Path) -> list[str] | None:
    """The texts of a text file or of an array of texts; None for rows."""
    with path.open("rb") as file:
        start = file.read(4096)
    if start[:4] == b"PAR1" or path.name.endswith(PACKED) or format_of(path) in ("csv", "arrow"):
        return None
    first = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from error
    if path.suffix not in _TABLES and (path.suffix == ".txt" or first not in (b"{", b"[")):
        return [line for line in text.splitlines() if line.strip()]
    if first == b"[":
        try:
            listed = json.loads(text)
        except (ValueError, RecursionError):
            return None  # the reader of rows says what is wrong
        if listed and all(isinstance(one, str) for one in listed):
            return [str(one) for one in listed]
    return None
