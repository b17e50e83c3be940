"""Whether what follows a verdict takes it back."""

import re

from evals.judges.verdicts.folding import fold
from evals.judges.verdicts.labels import NOUN
from schemas.labels import Preference
from schemas.patterns import late

_BETTER = (
    r"better|best|stronger|superior|prefer\w*|winner|wins?|winning|favou?r\w*|higher[ \t]quality"
)
# What people say who take something back, or who talk about a verdict that is not their own.
_CUES = fold(
    r"\bwait\b|mixed\s+(?:\w+\s+){0,2}up\b|mix-up|\bmistake|\bcorrecti(?:on|ng)\b|\boops\b"
    r"|second\s+thoughts?|reconsider|\bi\s+meant\b|scratch\s+that|\bswapped\b|\breversed?\b"
    r"|the\s+other\s+(?:one|way|completion|response)|on\s+reflection|strike\s+that|disregard"
    r"|change\s+my\s+(?:mind|verdict)|ignore\s+(?:that|the)|not\s+my\s+verdict|retract|misread"
    r"|misjudged|hmm|actually,|\binject|manipulat|\battempt(?:s|ed)?\s+to|trying\s+to|\btrick"
    r"|instruct\w*\s+me|(?:is|was)\s+wrong\b|should\s+(?:have\s+been|be)\s|\bno,|\bno:"
    r"|\bnot\s+sure|uncertain|verwechselt|vertauscht|korrektur|moment\s+mal|irrtum|eigentlich"
    r"|doch\s+nicht|je\s+me\s+suis\s+tromp|j'ai\s+confondu|erreur|en\s+fait|attendez"
    r"|rectification|me\s+equivoqu|confund|en\s+realidad|espera\b|correcci|me\s+enganei"
    r"|na\s+verdade|troquei|mi\s+sono\s+sbagliat|in\s+realt|перепутал|ошиб|на\s+самом\s+деле"
    r"|подожди|исправ|等等|等一下|搞错|搞錯|弄错|弄混|更正|其实|反过来|应该是|間違|訂正|逆|待って"
    r"|待てよ|実は|잠깐|실수|정정|다시\s*생각|바꿔"
)
_CUE = late(_CUES, re.IGNORECASE)
# `... than B`, `beats B`: a mention that speaks for the other side.
_BEATEN = late(
    r"(?:\b(?:than|over|beats?|outperforms?|surpass(?:es)?|defeats?|unlike|als|que|di|чем)"
    r"[ \t]+(?:(?:the|those\s+of|that\s+of|la|der|die)[ \t]+)?|比(?:起)?)"
    rf"(?:(?:{NOUN})[ \t]{{0,4}})?[\"'*(]{{0,3}}[AB]\b(?:'s)?",
    re.IGNORECASE,
)
_AGAINST = late(
    r"^[\"'*_`)\]]*[ \t,]*(?:is|was|ist|est|es)?[ \t]*(?:clearly |much |slightly )?"
    r"(?:not\b|worse|weaker|inferior|wrong|los(?:es|er)|isn't|nicht|pas\b|no\b|schlechter|hardly)",
    re.IGNORECASE,
)


def contradicted(rest: str, label: Preference) -> bool:
    """Whether what follows a verdict for `label` takes it back, or may.

    Args:
        rest: folded text from the end of the verdict on.
        label: the verdict.
    """
    if re.match(r"[\"'*_`)\]\s]*\?", rest) or _AGAINST.match(rest) or _CUE.search(rest):
        return True
    if label is Preference.TIE:
        return _prefers("AB", rest)
    other = label.swap().value
    left = _BEATEN.sub(" ", rest)
    if re.search(rf"(?<![\w'’]){other}(?!\w)", left):
        return True
    return bool(re.search(r"(?i:\b(?:it(?:'s| is)|call it) a (?:tie|draw)\b)", left))


def _prefers(sides: str, text: str) -> bool:
    claim = (
        rf"\b[{sides}]\b[^.\n]{{0,30}}\b(?:{_BETTER})\b"
        rf"|\b(?:{_BETTER}|choose|go with)[^.\n]{{0,20}}\b[{sides}]\b"
    )
    return any(
        not re.search(r"\b(?:neither|not|nor|no)\b", found[0], re.IGNORECASE)
        for found in re.finditer(claim, text)
    )
