"""Content hashes: the same content has the same id on every machine and in every run.

An id is the first 32 hex digits of SHA-256 over a canonical byte string in which each turn is
`role:length in bytes:content`, so that no content can imitate a boundary. What is made of a prompt
and completions has an id made of their ids: each text is hashed once.
"""

import hashlib
from pathlib import Path

from schemas.errors import MissingInputError
from schemas.labels import Messages


def canonical_messages(messages: Messages) -> str:
    """One string for a conversation; two conversations share it only if they are equal."""
    return "".join(f"{m['role']}:{len(m['content'].encode())}:{m['content']}" for m in messages)


def content_id(kind: str, *parts: str) -> str:
    """Hash of a kind and its parts, 32 hex digits. Parts are length-prefixed like turns."""
    digest = hashlib.sha256(kind.encode())
    for part in parts:
        data = part.encode()
        digest.update(f"|{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()[:32]


def prompt_id(prompt: Messages) -> str:
    """Id of a prompt: its turns and nothing else."""
    return content_id("prompt", canonical_messages(prompt))


def turns_id(turns: Messages) -> str:
    """Id of the turns of a completion, whatever they answer."""
    return content_id("turns", canonical_messages(turns))


def demonstration_id(prompt: Messages, completion: Messages) -> str:
    """Id of a demonstration: prompt and completion."""
    return content_id("demonstration", prompt_id(prompt), turns_id(completion))


def comparison_id(prompt: Messages, completion_a: Messages, completion_b: Messages) -> str:
    """Id of a comparison as shown: exchanging A and B gives another id, as it changes the label."""
    return content_id(
        "comparison", prompt_id(prompt), turns_id(completion_a), turns_id(completion_b)
    )


def pair_id(prompt: Messages, chosen: Messages, rejected: Messages) -> str:
    """Id of a preference pair."""
    return content_id("pair", prompt_id(prompt), turns_id(chosen), turns_id(rejected))


def completion_id(prompt: Messages, completion: Messages, policy: str, sample_index: int) -> str:
    """Id of a sampled completion: text, policy fingerprint and the sample's number."""
    return content_id(
        "completion", prompt_id(prompt), turns_id(completion), policy, str(sample_index)
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
