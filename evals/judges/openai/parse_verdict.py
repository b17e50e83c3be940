"""Verdicts in words: the last anchored one counts, and only if it was on offer."""

import re

from evals.judges.layout import DECORATION
from schemas.labels import Preference

# `Verdict: A` on a line of its own, or `[[A]]`. What stands there may be anything; it is checked.
_ANCHORED = re.compile(
    r"(?i:^[ \t>*_#`-]*(?:final\s+)?verdict[ \t*_`]*(?:is\b|[:=])(?P<line>[^\n]*)$)"
    r"|\[\[(?P<brackets>[ABC<>=]{1,5}|Tie)\]\]",
    re.MULTILINE,
)
_LABELS = {label.casefold(): label for label in Preference}

_REFUSAL = re.compile(
    r"\s*(?:i['’]m (?:very |so )?sorry|i am sorry|i apologi[sz]e|sorry\b|as an ai\b"
    r"|i (?:can['’]t|cannot|can not|won['’]t|will not|must decline|decline|refuse)\b"
    r"|i(?:['’]m| am) (?:not able|unable)\b)",
    re.IGNORECASE,
)


def last_verdict(text: str) -> Preference | None:
    """The label that a reply ends up with; None where it states none that was on offer.

    A reply that is nothing but a label counts; else the last `Verdict: ...` line or `[[...]]`.
    Labels in running text do not.
    """
    whole = offered(text)
    if whole is not None:
        return whole
    stated = [m["line"] or m["brackets"] or "" for m in _ANCHORED.finditer(text)]
    return offered(stated[-1]) if stated else None


def offered(text: str) -> Preference | None:
    """The label that a text is, decoration aside."""
    return _LABELS.get(text.strip(DECORATION).casefold())


def is_refusal(text: str) -> bool:
    """Whether a reply without a verdict declines to give one."""
    return _REFUSAL.match(text) is not None
