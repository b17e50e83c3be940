"""Content hashes: the same content has the same id on every machine and in every run.

An id is the first 32 hex digits of SHA-256 over a canonical byte string in which each turn is
`role:length in bytes:content`, so that no content can imitate a boundary; reasoning, tool calls and
whatever else a turn has stand behind it in the same way. What is made of a prompt
and completions has an id made of their ids: each text is hashed once.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import MissingInputError
from schemas.labels import Message, Messages

# Behind the content, where a turn has them. No role begins with the bar before each.
_BESIDE_CONTENT = ("reasoning", "tool_calls", "tool_call_id", "name", "extra")


def canonical_messages(messages: Messages) -> str:
    """One string for a conversation; two conversations share it only if they are equal."""
    return "".join(map(_canonical_turn, messages))


def _canonical_turn(turn: Message) -> str:
    text = f"{turn['role']}:{len(turn['content'].encode())}:{turn['content']}"
    if len(turn) == 2:  # role and content, as nearly all are
        return text
    found = ((name, turn.get(name)) for name in _BESIDE_CONTENT)
    for name, value in found:
        if value:
            said = value if isinstance(value, str) else json.dumps(_calls(value))
            text += f"|{name}:{len(said.encode())}:{said}"
    return text


def _calls(calls: object) -> list[tuple[str, str, str]]:
    """Name, arguments and id of each tool call, whatever keys without a value stand beside them."""
    assert isinstance(calls, list)
    return [(c["function"]["name"], c["function"]["arguments"], c.get("id") or "") for c in calls]


def content_id(kind: str, *parts: str) -> str:
    """Hash of a kind and its parts, 32 hex digits. Parts are length-prefixed like turns."""
    digest = hashlib.sha256(kind.encode())
    for part in parts:
        data = part.encode()
        digest.update(f"|{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()[:32]


def prompt_id(
    prompt: Messages, tools: str | None = None, chat_template_kwargs: str | None = None
) -> str:
    """Id of a prompt: its turns, and what it has for the chat template, if anything."""
    beside = {"tools": tools, "chat_template_kwargs": chat_template_kwargs}
    said = [f"{name}={value}" for name, value in beside.items() if value]
    return content_id("prompt", canonical_messages(prompt), *said)


def turns_id(turns: Messages) -> str:
    """Id of the turns of a completion, whatever they answer."""
    return content_id("turns", canonical_messages(turns))


def demonstration_id(prompt: Messages, completion: Messages) -> str:
    """Id of a demonstration: prompt and completion."""
    return content_id("demonstration", prompt_id(prompt), turns_id(completion))


def comparison_id(
    prompt: Messages, completion_a: Messages, completion_b: Messages, *, asked: str | None = None
) -> str:
    """Id of a comparison as shown: exchanging A and B gives another id, as it changes the label."""
    return content_id(
        "comparison", asked or prompt_id(prompt), turns_id(completion_a), turns_id(completion_b)
    )


def pair_id(
    prompt: Messages, chosen: Messages, rejected: Messages, *, asked: str | None = None
) -> str:
    """Id of a preference pair; `asked` is the prompt's id where its turns alone do not say it."""
    return content_id("pair", asked or prompt_id(prompt), turns_id(chosen), turns_id(rejected))


def own_prompt_id(row: Mapping[str, Any]) -> str | None:
    """The id of a row's prompt where it has more than turns, such as tools; else None."""
    rich = row.get("tools") or row.get("chat_template_kwargs")
    return str(row["prompt_id"]) if rich else None


def completion_id(
    prompt: Messages,
    completion: Messages,
    policy: str,
    sample_index: int,
    *,
    asked: str | None = None,
) -> str:
    """Id of a sampled completion: text, policy fingerprint and the sample's number."""
    return content_id(
        "completion", asked or prompt_id(prompt), turns_id(completion), policy, str(sample_index)
    )


def seed_from(seed: int, *parts: str | int) -> int:
    """A seed in [0, 2**31) for one unit of work, the same whatever ran before it."""
    return int(content_id("seed", str(seed), *map(str, parts))[:8], 16) % 2**31


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits.

    Raises:
        MissingInputError: no such file.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such file; correct its path") from error
