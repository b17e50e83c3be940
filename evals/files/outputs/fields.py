"""Where a row of somebody's file holds its prompt, its answer and its name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.errors import DataError
from schemas.labels import Message

Row = Mapping[str, Any]

PROMPT_NAMES = ("prompt", "instruction", "messages", "conversation", "question", "turns", "input")
OUTPUT_NAMES = ("output", "completion", "response", "answer", "generation", "choices", "messages")
_KEYS = ("question_id", "uid", "id", "prompt_id", "instruction_id", "idx", "key")
_CATEGORIES = ("category", "dataset", "domain", "subcategory")
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
_KNOWN_ROLES = ("system", "developer", "user", "assistant", "tool")


def user_turns(path: Path, number: int, row: Row) -> list[list[Message]]:
    """The prompt of a row, one conversation for each user turn that a file lists beside others.

    MT-Bench's `turns` are two questions, the second of which needs an answer to the first; all
    other forms hold one prompt. None where the row names no prompt.

    Raises:
        DataError: it is there and is no prompt.
    """
    if isinstance(row.get("turns"), list) and row["turns"]:
        texts = [_turn_text(path, number, turn) for turn in row["turns"]]
        return [[*_system(row), _user(text)] for text in texts]
    for name in PROMPT_NAMES:
        value = row.get(name)
        if value is not None:
            return [[*_system(row), *_prompt_of(path, number, name, value, row)]]
    if isinstance(row.get("chosen"), list):  # TRL's: the prompt stands in both conversations
        return [[*_system(row), *_prompt_of(path, number, "chosen", row["chosen"], row)]]
    return []


def _prompt_of(path: Path, number: int, name: str, value: Any, row: Row) -> list[Message]:
    if isinstance(value, str):
        more = row.get("input") if name == "instruction" else None
        text = f"{value}\n\n{more}" if isinstance(more, str) and more.strip() else value
        if not text.strip():
            raise DataError(f"{path}: row {number}: {name} says nothing; give it a text")
        return [_user(text)]
    turns = conversation(path, number, name, value)
    while turns and turns[-1]["role"] == "assistant":
        turns = turns[:-1]
    if not turns:
        raise DataError(f"{path}: row {number}: {name} holds no question, only answers")
    return turns


def conversation(path: Path, number: int, name: str, value: Any) -> list[Message]:
    """A list of turns, however their fields are called. Raises DataError."""
    if not isinstance(value, list):
        kind = type(value).__name__
        raise DataError(f"{path}: row {number}: {name} is {kind}, must be a text or messages")
    return [_message(path, number, f"{name}[{i}]", turn) for i, turn in enumerate(value)]


def _message(path: Path, number: int, where: str, turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise DataError(f"{path}: row {number}: {where} is {type(turn).__name__}, no message")
    role = str(turn.get("role", turn.get("from")))
    role = _ROLES.get(role, role)
    content = turn.get("content", turn.get("value"))
    if isinstance(content, Mapping):  # Arena-Hard v2: {"answer": text}
        content = content.get("answer")
    if role not in _KNOWN_ROLES or not isinstance(content, str):
        raise DataError(
            f"{path}: row {number}: {where} is no turn with a role of {', '.join(_KNOWN_ROLES)} "
            "and a text"
        )
    return {"role": role, "content": content}


def _turn_text(path: Path, number: int, turn: Any) -> str:
    text = turn.get("content") if isinstance(turn, Mapping) else turn
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{path}: row {number}: turns holds something that is no text")
    return text


def key_of(row: Row) -> str | None:
    """The name that a file gives a question, by which answers find it."""
    for name in _KEYS:
        value = row.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return str(value)
    return None


def category_of(row: Row) -> str | None:
    """The kind of prompt, where the file says it."""
    found = (row.get(name) for name in _CATEGORIES)
    return next((value for value in found if isinstance(value, str) and value), None)


REFERENCE_NAMES = ("reference", "reference_answer")
"""Names of an answer that is known to be good."""


def reference_of(row: Row, turn: int = 0) -> str | None:
    """The reference answer of a row's question; MT-Bench lists one for each of its turns."""
    value = next((row[name] for name in REFERENCE_NAMES if row.get(name) is not None), None)
    if isinstance(value, list):
        value = value[turn] if turn < len(value) else None
    elif turn:
        return None
    return value if isinstance(value, str) and value.strip() else None


def found_columns(row: Row) -> str:
    """The names that a row has, for messages."""
    names: Sequence[str] = [str(name) for name in row]
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") or "none"


def _system(row: Row) -> list[Message]:
    for name in ("system", "system_prompt"):
        if isinstance(text := row.get(name), str) and text.strip():
            return [{"role": "system", "content": text}]
    return []


def _user(text: str) -> Message:
    return {"role": "user", "content": text}
