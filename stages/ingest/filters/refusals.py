"""Answers that refuse, known by how they open."""

import re

_REFUSAL = re.compile(
    r"\W*(?:(?:i['’]?m|i am) (?:very |so |really )?sorry|sorry|(?:i )?apologi[sz]e|unfortunately|"
    r"as an ai\b|as a language model|i (?:can(?:no|['’])?t|am unable to|['’]?m unable to|"
    r"won['’]?t|will not|must decline|do not feel comfortable|don['’]?t feel comfortable)|"
    r"i['’]?m (?:unable|not able) to)",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"can(?:no|['’])?t|unable|not able|won['’]?t|will not|decline|comfortable|as an ai|"
    r"language model|against my",
    re.IGNORECASE,
)
_OPENING = 200


def is_refusal(said: str) -> bool:
    """Whether an answer opens as a refusal: an apology or "as an AI", with a denial soon after."""
    opening = said[:_OPENING]
    return bool(_REFUSAL.match(opening) and _DENIAL.search(opening))
