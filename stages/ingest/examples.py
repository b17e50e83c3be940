"""What a raw row is read as: an example of one table, or a reject with its reason."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.labels import Message, Preference

ROLES = ("system", "user", "assistant", "tool")


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
class ComparisonExample:
    """Two answers to a prompt, each one assistant turn, and the stated preference.

    `chosen_first` marks sources that always list the better answer first; their sides carry no
    information and are dealt anew. `language` is the source's own tag, for filters.
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

    table = "comparisons"


@dataclass(frozen=True)
class DemonstrationExample:
    """A prompt and a good answer to it."""

    prompt: Sequence[Message]
    completion: Sequence[Message]
    category: str | None = None
    language: str | None = None

    table = "demonstrations"


@dataclass(frozen=True)
class PromptExample:
    """A prompt alone."""

    prompt: Sequence[Message]
    category: str | None = None
    language: str | None = None

    table = "prompts"


Example = ComparisonExample | DemonstrationExample | PromptExample


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
    """A value that must be a finite number. Raises RowError."""
    value = field(row, name)
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
    """A value that must be a list of turns with known roles and text. Raises RowError."""
    value = field(row, name)
    if not isinstance(value, list):
        raise RowError("wrong_type", f"{name} is {_type(value)}, must be a list of messages")
    return [_message(turn, f"{name}[{i}]") for i, turn in enumerate(value)]


def _message(turn: Any, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise RowError("wrong_type", f"{where} is {_type(turn)}, must be a message")
    role, content = turn.get("role"), turn.get("content")
    if role not in ROLES:
        raise RowError("unknown_role", f"{where}: role {role!r}, must be one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise RowError("wrong_type", f"{where}: content is {_type(content)}, must be a string")
    return {"role": str(role), "content": content}


def check_prompt(prompt: Sequence[Message]) -> None:
    """A prompt must say something. Raises RowError."""
    if not any(turn["content"].strip() for turn in prompt):
        raise RowError("empty_prompt", "the prompt says nothing")


def check_completion(completion: Sequence[Message], name: str) -> None:
    """A completion must be one assistant turn that says something. Raises RowError."""
    if len(completion) != 1:
        raise RowError("not_one_turn", f"{name} has {len(completion)} turns, must have one")
    if completion[0]["role"] != "assistant":
        raise RowError("not_assistant", f"{name} is written by {completion[0]['role']!r}")
    if not completion[0]["content"].strip():
        raise RowError(f"empty_{name}", f"{name} says nothing")


def check_comparison(example: ComparisonExample, name_a: str, name_b: str) -> ComparisonExample:
    """Give the example back if both sides can be compared. Raises RowError."""
    check_prompt(example.prompt)
    check_completion(example.completion_a, name_a)
    check_completion(example.completion_b, name_b)
    texts = [c[0]["content"].strip() for c in (example.completion_a, example.completion_b)]
    if texts[0] == texts[1]:
        raise RowError("identical_completions", f"{name_a} and {name_b} say the same")
    return example


def split_history(
    chosen: list[Message], rejected: list[Message]
) -> tuple[list[Message], list[Message], list[Message]]:
    """Prompt, chosen and rejected of two conversations that differ in their last turn only.

    Raises:
        RowError: one has no turns, does not end with the assistant, or the histories differ.
    """
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if not turns:
            raise RowError("no_turns", f"{name} has no turns")
        if turns[-1]["role"] != "assistant":
            ending = "human" if turns[-1]["role"] == "user" else turns[-1]["role"]
            raise RowError(f"ends_with_{ending}", f"{name} has no answer at its end")
    if chosen[:-1] != rejected[:-1]:
        raise RowError("prompts_differ", _first_difference(chosen[:-1], rejected[:-1]))
    return chosen[:-1], chosen[-1:], rejected[-1:]


def _first_difference(left: list[Message], right: list[Message]) -> str:
    same = [a == b for a, b in zip(left, right, strict=False)]
    turn = same.index(False) if False in same else len(same)
    return f"histories of {len(left)} and {len(right)} turns differ from turn {turn}"


def _type(value: Any) -> str:
    return "null" if value is None else type(value).__name__
