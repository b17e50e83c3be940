"""What a server says: a chat completion, read with nothing taken for granted."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_POSITIONS_KEPT = 8
_TOKENS_KEPT = 32
_IMPOSSIBLE = -9999.0
"""Stands for a probability of 0, whose logarithm JSON does not know."""


class MalformedReply(ValueError):
    """JSON that is not a chat completion: `reason` is a code, the message is for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class TokenChoice:
    """One generated token, and what could have stood there.

    `logprobs` maps tokens, as the server writes them, to log-probabilities in nats.
    """

    token: str
    logprobs: Mapping[str, float]


@dataclass(frozen=True)
class Reply:
    """An answer of the model.

    `reasoning` is what it thought before, where the server keeps that apart. `refusal` is what the
    server says where the model, or a filter before it, declined. `choices` are the first tokens
    with their alternatives, empty where the server gives none. Token counts
    are None where the server does not say.
    """

    content: str
    refusal: str | None = None
    finish_reason: str | None = None
    choices: tuple[TokenChoice, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    model: str | None = None
    reasoning: str | None = None

    @property
    def cut(self) -> bool:
        """Whether the server ended it by length."""
        return self.finish_reason == "length"

    def to_json(self) -> str:
        """One line that `from_json` reads."""
        choices = [[c.token, dict(c.logprobs)] for c in self.choices]
        return json.dumps(self.__dict__ | {"choices": choices}, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Reply":
        """What `to_json` wrote. Raises ValueError or TypeError where it is something else."""
        value = json.loads(text)
        choices = tuple(TokenChoice(token, logprobs) for token, logprobs in value["choices"])
        return cls(**value | {"choices": choices})


def read_reply(body: Any) -> Reply:
    """A chat completion's first choice.

    Raises:
        MalformedReply: it is none.
    """
    if not isinstance(body, dict):
        raise MalformedReply("malformed_reply", "the reply is no JSON object")
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise MalformedReply("empty_choices", "the reply has no choices")
    choice = choices[0]
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise MalformedReply("malformed_reply", "the reply's choice has no message")
    content, refusal = message.get("content"), message.get("refusal")
    if not isinstance(content, str | None):
        raise MalformedReply("malformed_reply", "the reply's content is no text")
    finish_reason = choice.get("finish_reason")
    if finish_reason == "content_filter" and not refusal:
        refusal = "content_filter"
    usage = body.get("usage")
    return Reply(
        content=_clean(content) or "",
        refusal=_clean(refusal) or None,
        finish_reason=_clean(finish_reason),
        choices=_token_choices(choice.get("logprobs")),
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        model=_clean(body.get("model")),
        reasoning=_clean(message.get("reasoning_content") or message.get("reasoning")) or None,
    )


def _clean(text: Any) -> str | None:
    """A text that every file can hold: half characters, which JSON can spell, are replaced."""
    return text.encode(errors="replace").decode() if isinstance(text, str) else None


def _token_choices(logprobs: Any) -> tuple[TokenChoice, ...]:
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list):
        return ()
    return tuple(_token_choice(entry) for entry in content[:_POSITIONS_KEPT])


def _token_choice(entry: Any) -> TokenChoice:
    try:
        top = entry.get("top_logprobs") or []
        entries = [*top[:_TOKENS_KEPT], entry]
        logprobs = {_clean(str(one["token"])) or "": _logprob(one["logprob"]) for one in entries}
        return TokenChoice(_clean(str(entry["token"])) or "", logprobs)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise MalformedReply("malformed_reply", "the reply's logprobs cannot be read") from error


def _logprob(value: Any) -> float:
    """A log-probability; a rounding above 0 is 0. Raises ValueError where it is none."""
    number = float(value)
    if math.isnan(number) or number > 1e-3:
        raise ValueError("a log-probability is above 0, or no number")
    return min(0.0, max(_IMPOSSIBLE, number))


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and 0 <= value < 2**31 else None
