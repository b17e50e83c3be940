"""Items that are too long, made to fit in the way that the recipe declares, and counted.

Nothing is shortened unless a recipe says how; what cannot be made to fit is rejected as it would
have been without.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evals.models.chat.read_only import scored
from evals.models.rendering import ChatRenderer, RenderedBranches
from schemas.labels import Message, Messages
from stages.training.config import Truncation

_SYSTEM = ("system", "developer")


def fitted(
    renderer: ChatRenderer,
    rendered: RenderedBranches,
    prompt: Messages,
    completions: Sequence[Messages],
    limit: int,
    truncation: Truncation,
) -> tuple[RenderedBranches, str] | None:
    """A longer item within `limit` tokens and what was cut of it; None where it does not fit."""
    if truncation.how in ("keep_start", "cut_completions"):
        return _cut_completions(renderer, rendered, limit, truncation)
    if truncation.how == "keep_end":
        return _keep_end(renderer, rendered, limit, truncation)
    if truncation.how == "drop_turns":
        return _drop_turns(renderer, prompt, completions, limit)
    if truncation.how == "cut_thinking":
        return _cut_thinking(renderer, prompt, completions, limit)
    return None


def _longest(rendered: RenderedBranches) -> int:
    return len(rendered.prompt_ids) + max(map(len, rendered.completions))


def _cut_completions(
    renderer: ChatRenderer, rendered: RenderedBranches, limit: int, truncation: Truncation
) -> tuple[RenderedBranches, str] | None:
    """The start of prompt and completion; a completion that is cut has no end, or a trained one."""
    room = limit - len(rendered.prompt_ids)
    completions = _cut_to(room, renderer, rendered, truncation)
    return (
        None if completions is None else (replace(rendered, completions=completions), "completion")
    )


def _cut_to(
    room: int, renderer: ChatRenderer, rendered: RenderedBranches, truncation: Truncation
) -> list[list[int]] | None:
    """The completions within `room` tokens; None where nothing of one would be trained."""
    if room < (2 if truncation.train_end else 1):
        return None
    end = renderer.end_ids[0]

    def cut(ids: list[int]) -> list[int]:
        if len(ids) <= room:
            return ids
        return [*ids[: room - 1], end] if truncation.train_end else ids[:room]

    completions = [cut(ids) for ids in rendered.completions]
    return completions if all(map(scored, completions)) else None


def _keep_end(
    renderer: ChatRenderer, rendered: RenderedBranches, limit: int, truncation: Truncation
) -> tuple[RenderedBranches, str] | None:
    """The end of the prompt, as much as fits or as is declared; the latter may cut completions."""
    if (kept := truncation.prompt_tokens) is not None:
        shorter = replace(rendered, prompt_ids=rendered.prompt_ids[-kept:])
        if _longest(shorter) <= limit:
            return shorter, "prompt"
        completions = _cut_to(limit - kept, renderer, shorter, truncation)
        return None if completions is None else (replace(shorter, completions=completions), "both")
    room = limit - max(map(len, rendered.completions))
    if room < 1:
        return None
    return replace(rendered, prompt_ids=rendered.prompt_ids[-room:]), "prompt"


def _drop_turns(
    renderer: ChatRenderer, prompt: Messages, completions: Sequence[Messages], limit: int
) -> tuple[RenderedBranches, str] | None:
    """Without the earliest turns, up to the next of the user; what the system said stays."""
    said = [m for m in prompt if m["role"] in _SYSTEM]
    turns = [m for m in prompt if m["role"] not in _SYSTEM]
    starts = [i for i, m in enumerate(turns) if m["role"] == "user" and i > 0]
    return _first_that_fits(
        renderer, [([*said, *turns[start:]], completions) for start in starts], limit, "turns"
    )


def _cut_thinking(
    renderer: ChatRenderer, prompt: Messages, completions: Sequence[Messages], limit: int
) -> tuple[RenderedBranches, str] | None:
    """With the end of what a completion thought before its answer left out, a tenth at a time."""
    if not any(m.get("reasoning") for messages in completions for m in messages):
        return None
    tries = []
    for tenths in range(9, -1, -1):
        shorter = [[_thinking_less(m, tenths) for m in messages] for messages in completions]
        tries.append((prompt, shorter))
    return _first_that_fits(renderer, tries, limit, "thinking")


def _thinking_less(message: Message, tenths: int) -> Message:
    words = (message.get("reasoning") or "").split(" ")
    if not message.get("reasoning"):
        return message
    kept = " ".join(words[: len(words) * tenths // 10])
    return {**message, "reasoning": kept or None}


def _first_that_fits(
    renderer: ChatRenderer,
    tries: Sequence[tuple[Messages, Sequence[Messages]]],
    limit: int,
    what: str,
) -> tuple[RenderedBranches, str] | None:
    for prompt, completions in tries:
        (rendered,) = renderer.render_many([(prompt, completions)])
        if isinstance(rendered, RenderedBranches) and _longest(rendered) <= limit:
            return rendered, what
    return None


def is_too_long(rendered: Any, limit: int | None) -> bool:
    """Whether a rendered item has more tokens than may be trained on."""
    return (
        limit is not None and isinstance(rendered, RenderedBranches) and _longest(rendered) > limit
    )
