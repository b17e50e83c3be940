"""People's own files, in the formats TRL and the Tinker cookbook read.

Preferences: TRL's `prompt, chosen, rejected` or `chosen, rejected` with the prompt in both, as
text or as messages; the cookbook's `{"comparison": {...}, "label": A | "B" | "Tie"}`; rows of our
own comparisons table, or two answers and a label under other names (`spellings`). What
`prefline export` adds beside the format's own columns is read again: `chosen_side`, `strength`,
`label_source`, `category`. `reference` is an answer to the prompt that is known to be good, for
judges that are shown one.
Demonstrations are `prompt, completion`, prompts are `prompt`, again as text or messages. Where a
row has no `prompt`, another of PROMPT_FIELDS is one; `system`, `history` and `input` belong to it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import polars as pl

from schemas.conversations import looks_like_json
from schemas.labels import Message
from schemas.tables import TEMPLATE_COLUMNS
from stages.ingest.datasets.config import PROMPT_FIELDS, OwnFiles
from stages.ingest.datasets.hh import parse_hh
from stages.ingest.datasets.own.prompts import (
    BESIDE_PROMPT,
    completion_field,
    is_transcript,
    stated_prompt,
    stripped,
    with_system,
)
from stages.ingest.datasets.own.sided import beside, on_its_side, parse_cookbook, parse_sided
from stages.ingest.datasets.own.sides import SIDED_COLUMNS
from stages.ingest.datasets.own.spellings import sides_of
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
    template_of,
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
        *("prompt", "chosen", "rejected", "category", "language", "label_source", "reference"),
        *("comparison", "chosen_side", *SIDED_COLUMNS),
        *(*PROMPT_FIELDS[1:], *BESIDE_PROMPT, *sorted(TEMPLATE_COLUMNS)),
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
    if "rejected" not in row and (sides := sides_of(row)) is not None:
        return parse_sided(row, sides)
    prompt = None if _are_conversations(row) else stated_prompt(row)
    if prompt is None and _is_transcript(row.get("chosen")):
        return parse_hh(row)
    label, strength = scored_label(row, required=False)
    if prompt is not None:
        check_prompt(prompt)
        names = ("chosen", "rejected")
        answers: Iterable[Turns] = [completion_field(row, name) for name in names]
        if is_transcript(row.get("prompt")):  # the space after a marker is no part of a turn
            answers = map(stripped, answers)
        chosen, rejected = answers
    else:
        prompt, chosen, rejected = _implicit(row)
    example = ComparisonExample(
        prompt,
        chosen,
        rejected,
        label,
        strength,
        chosen_first=True,
        template=template_of(row),
        **beside(row),
    )
    return on_its_side(check_comparison(example, "chosen", "rejected"), row)


def parse_demonstration(row: Mapping[str, Any]) -> DemonstrationExample:
    """A prompt and its completion. Raises RowError."""
    completion = completion_field(row, "completion")
    check_completion(completion, "completion")
    prompt = stated_prompt(row)
    if prompt is None:
        raise RowError("missing_field", f"none of {', '.join(PROMPT_FIELDS)} is there")
    check_prompt(prompt)
    return DemonstrationExample(
        prompt,
        completion,
        optional_text(row, "category"),
        optional_text(row, "language"),
        template_of(row),
    )


def parse_prompt(row: Mapping[str, Any]) -> PromptExample:
    """A prompt alone, by whichever of PROMPT_FIELDS the row has first; answers at the end of a
    conversation are left out. Raises RowError.
    """
    prompt = stated_prompt(row)
    if prompt is None:
        raise RowError("missing_field", f"none of {', '.join(PROMPT_FIELDS)} is there")
    while prompt and prompt[-1]["role"] == "assistant":
        prompt = prompt[:-1]
    check_prompt(prompt)
    category, language = (optional_text(row, name) for name in ("category", "language"))
    reference = optional_text(row, "reference")
    return PromptExample(prompt, category, language, template_of(row), reference)


Turns = list[Message]


def _are_conversations(row: Mapping[str, Any]) -> bool:
    """Whether chosen and rejected are whole conversations, whatever else stands beside them."""
    sides = [row.get(name) for name in ("chosen", "rejected")]
    if all(isinstance(side, list) and side for side in sides):
        return all(_first_role(side) not in ("assistant", "gpt", None) for side in sides)
    return row.get("prompt") is None and all(
        isinstance(side, str) and looks_like_json(side) for side in sides
    )


def _first_role(turns: Any) -> Any:
    first = turns[0]
    return (first.get("role") or first.get("from")) if isinstance(first, Mapping) else None


def _implicit(row: Mapping[str, Any]) -> tuple[Turns, Turns, Turns]:
    chosen = field(row, "chosen")
    if not isinstance(chosen, str) or looks_like_json(chosen):
        sides = split_history(messages_field(row, "chosen"), messages_field(row, "rejected"))
        return with_system(row, sides[0]), *sides[1:]
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


def _turn(role: str, content: str) -> Turns:
    return [{"role": role, "content": content}]


def _is_transcript(chosen: Any) -> bool:
    return isinstance(chosen, str) and chosen.startswith("\n\nHuman:")
