"""What a raw row is read as: an example of one table, or a reject with its reason."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.conversations import ConversationError, looks_like_json, normalise_messages
from schemas.ids import canonical_messages
from schemas.labels import Message, Preference
from schemas.patterns import late

_NUMBER = late(r"[+-]?(\d{1,300}(\.\d{0,300})?|\.\d{1,300})([eE][+-]?\d{1,3})?", re.ASCII)
_REASONS = {
    "not_a_conversation": "wrong_type",
    "bad_content": "wrong_type",
    "no_content": "wrong_type",
    "no_role": "unknown_role",
}
"""What `schemas.conversations` calls a defect, where rejects have another name for it."""


class RowError(Exception):
    """A row that cannot be used: a code to count by, and a detail for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Annotation:
    """What one annotator said, A and B being the row's own sides; `strength` is never negative.

    `reason` is why one side is better, `feedback_a` and `feedback_b` what is said of either alone.
    """

    label: Preference
    strength: float | None
    reason: str | None
    annotator: str | None = None
    feedback_a: str | None = None
    feedback_b: str | None = None


@dataclass(frozen=True)
class Template:
    """What a prompt has for the chat template, as JSON text: tools, and other arguments."""

    tools: str | None = None
    chat_template_kwargs: str | None = None


@dataclass(frozen=True)
class ComparisonExample:
    """Two answers to a prompt, each the assistant's turns, and the stated preference.

    `chosen_first` marks sources that always list the better answer first; their sides carry no
    information and are dealt anew. `language` is the source's own tag, for filters,
    `reference` an answer that it knows to be good.
    """

    prompt: Sequence[Message]
    completion_a: Sequence[Message]
    completion_b: Sequence[Message]
    label: Preference
    strength: float | None = None
    annotations: Sequence[Annotation] = ()
    category: str | None = None
    label_source: str = "human"
    chosen_first: bool = False
    language: str | None = None
    template: Template = Template()
    reference: str | None = None

    table = "comparisons"


@dataclass(frozen=True)
class DemonstrationExample:
    """A prompt and a good answer to it."""

    prompt: Sequence[Message]
    completion: Sequence[Message]
    category: str | None = None
    language: str | None = None
    template: Template = Template()

    table = "demonstrations"


@dataclass(frozen=True)
class RatedExample:
    """A prompt and one answer to it, which is good or bad by itself."""

    prompt: Sequence[Message]
    completion: Sequence[Message]
    good: bool
    category: str | None = None
    language: str | None = None
    template: Template = Template()

    table = "unpaired"


@dataclass(frozen=True)
class PromptExample:
    """A prompt alone."""

    prompt: Sequence[Message]
    category: str | None = None
    language: str | None = None
    template: Template = Template()
    reference: str | None = None

    table = "prompts"


Example = ComparisonExample | DemonstrationExample | RatedExample | PromptExample


def field(row: Mapping[str, Any], name: str) -> Any:
    """A value that must be there. Raises RowError."""
    if row.get(name) is None:
        raise RowError("missing_field", f"{name} is {'null' if name in row else 'not there'}")
    return row[name]


def text_field(row: Mapping[str, Any], name: str) -> str:
    """A value that must be a string. Raises RowError."""
    value = field(row, name)
    if not isinstance(value, str):
        raise RowError("wrong_type", f"{name} is {_type(value)}, must be a string")
    return value


def optional_text(row: Mapping[str, Any], name: str) -> str | None:
    """A string where the row has one."""
    value = row.get(name)
    return value if isinstance(value, str) else None


def number_field(row: Mapping[str, Any], name: str) -> float:
    """A value that must be a finite number, or the text of one, as CSV has it. Raises RowError."""
    value = field(row, name)
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowError("wrong_type", f"{name} is {_type(value)}, must be a number")
    try:
        number = float(value)
    except OverflowError:  # an integer of more digits than any float
        number = math.inf
    if not math.isfinite(number):
        raise RowError("non_finite_number", f"{name} is {number}")
    return number


def messages_field(row: Mapping[str, Any], name: str) -> list[Message]:
    """A value that must be a conversation, in any of the usual layouts. Raises RowError."""
    value = field(row, name)
    if not isinstance(value, list) and not (isinstance(value, str) and looks_like_json(value)):
        raise RowError("wrong_type", f"{name} is {_type(value)}, must be a list of messages")
    if not value:
        return []
    return read_messages(lambda: normalise_messages(value), name)


def read_messages(read: Callable[[], list[Message]], name: str) -> list[Message]:
    """What `schemas.conversations` reads, its refusals as rejects. Raises RowError."""
    try:
        return read()
    except ConversationError as error:
        reason = _REASONS.get(error.reason, error.reason)
        raise RowError(reason, f"{name}: {error.detail}") from error


def template_of(row: Mapping[str, Any]) -> Template:
    """The columns `tools` and `chat_template_kwargs`, objects or JSON text. Raises RowError."""
    return Template(
        _json_text(row.get("tools"), "tools", list),
        _json_text(row.get("chat_template_kwargs"), "chat_template_kwargs", dict),
    )


def _json_text(value: Any, name: str, kind: type) -> str | None:
    if isinstance(value, str):
        try:
            value = json.loads(value or "null")
        except ValueError as error:
            raise RowError("invalid_json", f"{name}: {error}") from error
    value = _without_nulls(value)
    if not value:
        return None
    if not isinstance(value, kind):
        raise RowError("wrong_type", f"{name} is {_type(value)}, must be a {kind.__name__}")
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _without_nulls(value: Any) -> Any:
    """Columnar files fill objects of different shapes up with nulls."""
    if isinstance(value, dict):
        return {key: _without_nulls(v) for key, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


def check_prompt(prompt: Sequence[Message]) -> None:
    """A prompt must say something. Raises RowError."""
    if not any(turn["content"].strip() for turn in prompt):
        raise RowError("empty_prompt", "the prompt says nothing")


def check_completion(completion: Sequence[Message], name: str) -> None:
    """A completion is one assistant turn that says something, or several with the results of
    tools between them. Raises RowError.
    """
    if not completion:
        raise RowError("not_one_turn", f"{name} has 0 turns, must have one")
    strange = [turn["role"] for turn in completion if turn["role"] not in ("assistant", "tool")]
    if strange and len(completion) > 1:
        raise RowError("not_one_turn", f"{name} has a turn by {strange[0]!r} among its turns")
    for turn in (completion[0], completion[-1]):
        if turn["role"] != "assistant":
            raise RowError("not_assistant", f"{name} is written by {turn['role']!r}")
    if not any(t["content"].strip() or t.get("tool_calls") for t in completion):
        raise RowError(f"empty_{name}", f"{name} says nothing")


def check_comparison(example: ComparisonExample, name_a: str, name_b: str) -> ComparisonExample:
    """Give the example back if both sides can be compared. Raises RowError."""
    check_prompt(example.prompt)
    check_completion(example.completion_a, name_a)
    check_completion(example.completion_b, name_b)
    if _said(example.completion_a) == _said(example.completion_b):
        raise RowError("identical_completions", f"{name_a} and {name_b} say the same")
    return example


def _said(completion: Sequence[Message]) -> str:
    """All that a completion is, white space around its texts left out."""
    stripped = [Message(**{**turn, "content": turn["content"].strip()}) for turn in completion]
    return canonical_messages(stripped)


def split_history(
    chosen: list[Message], rejected: list[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    """Prompt, chosen and rejected of two conversations that differ in their last turn only, or in
    all turns of the assistant and its tools from one on.

    Raises:
        RowError: one has no turns, does not end with the assistant, or the histories differ.
    """
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if not turns:
            raise RowError("no_turns", f"{name} has no turns")
        if turns[-1]["role"] != "assistant":
            ending = "human" if turns[-1]["role"] == "user" else turns[-1]["role"]
            raise RowError(f"ends_with_{ending}", f"{name} has no answer at its end")
    if chosen[:-1] == rejected[:-1]:
        return chosen[:-1], chosen[-1:], rejected[-1:]
    cut = _shared_turns(chosen, rejected)
    rest = (*chosen[cut:], *rejected[cut:])
    uses_tools = any(turn["role"] == "tool" or turn.get("tool_calls") for turn in rest)
    if not uses_tools or any(turn["role"] not in ("assistant", "tool") for turn in rest):
        raise RowError("prompts_differ", _first_difference(chosen[:-1], rejected[:-1]))
    return chosen[:cut], chosen[cut:], rejected[cut:]


def _shared_turns(chosen: list[Message], rejected: list[Message]) -> int:
    """How many turns both begin with; what follows begins with the assistant in both."""
    same = [a == b for a, b in zip(chosen, rejected, strict=False)]
    cut = same.index(False) if False in same else min(len(chosen), len(rejected)) - 1
    while cut and any(turns[cut]["role"] == "tool" for turns in (chosen, rejected)):
        cut -= 1
    return cut


def _first_difference(left: list[Message], right: list[Message]) -> str:
    same = [a == b for a, b in zip(left, right, strict=False)]
    turn = same.index(False) if False in same else len(same)
    return f"histories of {len(left)} and {len(right)} turns differ from turn {turn}"


def _type(value: Any) -> str:
    return "null" if value is None else type(value).__name__
