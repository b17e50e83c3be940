"""Thoughts before an answer, cut away."""

import re

from schemas.patterns import late

# What opens and closes a thought in the text of today's models.
_TAGS = "think|thinking|thought|thoughts|reasoning|reason|analysis|scratchpad|seed:think"
_OPEN = late(
    rf"<(?:{_TAGS})\s*>|\[THINK\]|◁think▷|<\|begin_of_thought\|>"
    r"|<\|channel\|>(?:analysis|commentary)[^<\n]{0,80}<\|message\|>",
    re.IGNORECASE,
)
_CLOSE = late(
    rf"</(?:{_TAGS})\s*>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>"
    r"|<\|channel\|>final[^<\n]{0,80}<\|message\|>",
    re.IGNORECASE,
)


def opens_a_thought(prompt: str) -> bool:
    """Whether a prompt ends inside a thought, so that a reply begins there."""
    opened = [found.start() for found in _OPEN.finditer(prompt)]
    closed = [found.start() for found in _CLOSE.finditer(prompt)]
    return bool(opened) and max(opened) > max(closed, default=-1)


def without_thinking(text: str) -> str | None:
    """What a reply says after its thoughts; None where a thought is not closed.

    A thought that the prompt has opened is closed without having been opened.
    """
    end = 0
    for closing in _CLOSE.finditer(text):
        end = closing.end()
    answer = text[end:]
    return None if _OPEN.search(answer) else answer.strip()
