"""People's own files, in the formats TRL and the Tinker cookbook read.

Preferences: TRL's `prompt, chosen, rejected` or `chosen, rejected` with the prompt in both, as
text or as messages; the cookbook's `{"comparison": {...}, "label": A | "B" | "Tie"}`; and rows
of our own comparisons table. What `prefline export` adds beside the format's own columns is read
again: `chosen_side`, `strength`, `label_source`, `category`.
Demonstrations are `prompt, completion`, prompts are `prompt`, again as text or messages.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import polars as pl

from schemas.labels import Message
from stages.ingest.datasets.config import PROMPT_FIELDS, OwnFiles
from stages.ingest.datasets.hh import parse_hh
from stages.ingest.datasets.sided import beside, on_its_side, parse_cookbook, parse_own
from stages.ingest.datasets.ultrafeedback import SCORES, scored_label
from stages.ingest.examples import (
    ComparisonExample,
    DemonstrationExample,
    Example,
    PromptExample,
    RowError,
    check_comparison,
    check_completion,
    check_prompt,
    field,
    messages_field,
    optional_text,
    split_history,
    text_field,
)
from stages.ingest.frames.examples import EMPTY
from stages.ingest.frames.preferences import read_preferences
from stages.ingest.frames.texts import Places, Texts, plain_frame
from stages.ingest.readers.sources import FileReader


class OwnFilesReader(FileReader[OwnFiles]):
    """Rows in the formats of TRL, of the Tinker cookbook, and of our own tables."""

    flat_fields: ClassVar[tuple[str, ...]] = ("chosen", "rejected")
    # All that `parse_preference` looks at.
    table_fields: ClassVar[tuple[str, ...]] = (
        *("prompt", "chosen", "rejected", "category", "language", "label_source"),
        *("comparison", "completion_a", "chosen_side"),
        *(name for pair in SCORES for name in pair),
    )

    def read_flat(self, rows: Places, texts: Mapping[str, Texts]) -> pl.DataFrame:
        """The rows without doubt, in whole columns."""
        return self.read_table(plain_frame(rows, texts))

    def read_table(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The preferences without doubt; other contents, and sided rows, are read one by one."""
        return read_preferences(rows, SCORES) if self.config.content == "comparisons" else EMPTY

    def parse(self, row: Mapping[str, Any]) -> Example:
        """One row as what `content` says it is. Raises RowError."""
        if self.config.content == "prompts":
            return parse_prompt(row)
        if self.config.content == "demonstrations":
            return parse_demonstration(row)
        return parse_preference(row)


def parse_preference(row: Mapping[str, Any]) -> ComparisonExample:
    """A preference in any of the formats. Raises RowError."""
    if "comparison" in row:
        return parse_cookbook(row)
    if "completion_a" in row:
        return parse_own(row)
    if row.get("prompt") is None and _is_transcript(row.get("chosen")):
        return parse_hh(row)
    label, strength = scored_label(row, required=False)
    prompt, chosen, rejected = _explicit(row) if row.get("prompt") is not None else _implicit(row)
    example = ComparisonExample(
        prompt, chosen, rejected, label, strength, chosen_first=True, **beside(row)
    )
    return on_its_side(check_comparison(example, "chosen", "rejected"), row)


def parse_demonstration(row: Mapping[str, Any]) -> DemonstrationExample:
    """A prompt and its completion. Raises RowError."""
    completion = _turns(row, "completion", "assistant")
    check_completion(completion, "completion")
    return DemonstrationExample(
        _prompt(row),
        completion,
        optional_text(row, "category"),
        optional_text(row, "language"),
    )


def parse_prompt(row: Mapping[str, Any]) -> PromptExample:
    """A prompt alone, by whichever of PROMPT_FIELDS the row has first; answers at the end of a
    conversation are left out. Raises RowError.
    """
    name = next((name for name in PROMPT_FIELDS if row.get(name) is not None), "prompt")
    prompt = _turns(row, name, "user")
    while prompt and prompt[-1]["role"] == "assistant":
        prompt = prompt[:-1]
    check_prompt(prompt)
    return PromptExample(prompt, optional_text(row, "category"), optional_text(row, "language"))


Turns = list[Message]


def _prompt(row: Mapping[str, Any]) -> Turns:
    prompt = _turns(row, "prompt", "user")
    check_prompt(prompt)
    return prompt


def _explicit(row: Mapping[str, Any]) -> tuple[Turns, Turns, Turns]:
    return (
        _prompt(row),
        _turns(row, "chosen", "assistant"),
        _turns(row, "rejected", "assistant"),
    )


def _implicit(row: Mapping[str, Any]) -> tuple[Turns, Turns, Turns]:
    if not isinstance(row.get("chosen"), str):
        return split_history(messages_field(row, "chosen"), messages_field(row, "rejected"))
    prompt, chosen, rejected = shared_prefix(text_field(row, "chosen"), text_field(row, "rejected"))
    return _turn("user", prompt), _turn("assistant", chosen), _turn("assistant", rejected)


def shared_prefix(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Cut two texts where they part, at the last space before: no word is torn, no text is lost.

    Raises:
        RowError: they share no word at their beginning.
    """
    if chosen == rejected:
        raise RowError("identical_completions", "chosen and rejected say the same")
    shared = chosen[: _shared_length(chosen, rejected)]
    cut = len(shared.rstrip())
    if cut == len(shared):  # the texts part inside a word
        cut = len(shared[: _last_space(shared)].rstrip())
    if cut == 0:
        raise RowError("no_shared_prompt", "chosen and rejected do not begin alike; give a prompt")
    return chosen[:cut], chosen[cut:], rejected[cut:]


def _shared_length(left: str, right: str) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(left), len(right)))


def _last_space(text: str) -> int:
    return max((i for i, character in enumerate(text) if character.isspace()), default=0)


def _turns(row: Mapping[str, Any], name: str, role: str) -> Turns:
    """A field that is text (one turn of `role`) or messages."""
    if isinstance(field(row, name), str):
        return _turn(role, row[name])
    return messages_field(row, name)


def _turn(role: str, content: str) -> Turns:
    return [{"role": role, "content": content}]


def _is_transcript(chosen: Any) -> bool:
    return isinstance(chosen, str) and chosen.startswith("\n\nHuman:")
