"""Replies that decline to judge."""

import re

from schemas.patterns import late

_REFUSAL = late(
    r"\s*(?:i['’]m (?:very |so )?sorry|i am sorry|i apologi[sz]e|sorry\b|as an ai\b"
    r"|i (?:can['’]t|cannot|can not|won['’]t|will not|must decline|decline|refuse)\b"
    r"|i(?:['’]m| am) (?:not able|unable)\b)",
    re.IGNORECASE,
)


def is_refusal(text: str) -> bool:
    """Whether a reply without a verdict declines to give one."""
    return _REFUSAL.match(text) is not None
