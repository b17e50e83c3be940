"""The prompt of a row and its answers, under whatever name and in whatever layout they stand."""

from collections.abc import Mapping
from typing import Any

from schemas.conversations import looks_like_json, messages_of, normalise_messages, transcript
from schemas.labels import Message
from stages.ingest.datasets.config import PROMPT_FIELDS
from stages.ingest.examples import (
    RowError,
    check_completion,
    check_prompt,
    field,
    read_messages,
)

Turns = list[Message]

SYSTEM_FIELDS = ("system", "system_prompt")
BESIDE_PROMPT = (*SYSTEM_FIELDS, "history", "input")
"""Columns that belong to a prompt which stands in one of PROMPT_FIELDS."""


def stated_prompt(row: Mapping[str, Any]) -> Turns | None:
    """The prompt by whichever of PROMPT_FIELDS the row has first; None where it has none.

    Raises:
        RowError: it is no conversation, or text that is rendered already.
    """
    name = next((name for name in PROMPT_FIELDS if row.get(name) is not None), None)
    if name is None:
        return None
    value = row[name]
    if name == "instruction" and isinstance(value, str):
        value = "\n".join(filter(None, (value, _text(row, "input"))))
    if not isinstance(value, str | list):
        raise RowError("wrong_type", f"{name} is {type(value).__name__}, must be a string")
    turns = read_messages(lambda: messages_of(value), name) if value else []
    return with_system(row, [*_history(row), *turns])


def with_system(row: Mapping[str, Any], turns: Turns) -> Turns:
    """The turns behind the system text that the row has in a column of its own, if any."""
    system = next((text for name in SYSTEM_FIELDS if (text := _text(row, name))), None)
    if system is None or (turns and turns[0]["role"] in ("system", "developer")):
        return turns
    return [{"role": "system", "content": system}, *turns]


def answered(row: Mapping[str, Any]) -> tuple[Turns, Turns]:
    """A row's prompt and its one `completion`, both checked. Raises RowError."""
    prompt = stated_prompt(row)
    if prompt is None:
        raise RowError("missing_field", f"none of {', '.join(PROMPT_FIELDS)} is there")
    check_prompt(prompt)
    completion = completion_field(row, "completion")
    check_completion(completion, "completion")
    return prompt, completion


def completion_field(row: Mapping[str, Any], name: str) -> Turns:
    """An answer: a text, one message, or the assistant's turns. Raises RowError."""
    value = field(row, name)
    if isinstance(value, str) and not looks_like_json(value):
        value = [{"role": "assistant", "content": value}]
    if not isinstance(value, str | list | Mapping):
        raise RowError("wrong_type", f"{name} is {type(value).__name__}, must be a string")
    return read_messages(lambda: normalise_messages(value), name) if value else []


def is_transcript(value: Any) -> bool:
    """Whether a text is turns like `Human: ... Assistant: ...`."""
    return isinstance(value, str) and transcript(value) is not None


def stripped(turns: Turns) -> Turns:
    """Turns without white space around what they say."""
    return [Message(**{**t, "content": t["content"].strip()}) for t in turns]


def _text(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    return value if isinstance(value, str) and value.strip() else None


def _history(row: Mapping[str, Any]) -> Turns:
    """Earlier turns as pairs of what was asked and answered. Raises RowError."""
    pairs = row.get("history") or []
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(t, str) for t in pair)
        for pair in pairs
    ):
        raise RowError("wrong_type", "history must be a list of pairs of texts")
    roles = ("user", "assistant")
    return [
        Message(role=role, content=said)
        for pair in pairs
        for role, said in zip(roles, pair, strict=True)
    ]
