"""The ways to write a label."""

import re
from dataclasses import dataclass

from evals.judges.verdicts.folding import fold
from schemas.labels import Preference
from schemas.patterns import late

DECORATION = " \t\r\n*_`~\"'“”‘’.!()[]{}<>"
"""What may stand around a label without changing it."""

NOUN = fold(
    "completion|response|answer|assistant|option|model|output|candidate|reply|text|version|choice"
    "|system|chatbot|antwort|vervollständigung|réponse|respuesta|opción|resposta|opção|risposta"
    "|opzione|odpowiedź|ответ|вариант|回答|回复|回應|选项|選項|答案|助手|模型|応答|選択肢|답변"
    "|응답|옵션"
)
_TIES = fold(
    r"tie|tied|draw|(?:both\s+)?equal(?:ly\s+good)?|no\s+preference|neither|undecided"
    r"|unentschieden|gleichstand|égalité|egalité|ex[ -]?aequo|empate|pareggio|remis|ничья|平局|平手"
    r"|打平|不分上下|不分伯仲|引き?分け|同点|무승부|동점"
)
_SIDE = rf"(?:(?:the\s+)?(?:{NOUN})\s*[#_:-]?\s*[\"'(\[*_`]*)?(?P<side>[AB])"
_TIE = rf"(?:(?:it\s+is|it's|this\s+is)\s+)?(?:an?\s+)?(?P<tie>{_TIES})"
_SCALE = r"[AB]\s*(?:>{1,5}|<{1,5}|=)\s*[AB]"
_WHOLE = late(rf"(?:{_TIE}|{_SIDE}|(?P<scale>{_SCALE}))", re.IGNORECASE)
# At the start of a longer text a label is only what cannot be an article.
_START = late(
    rf"[{re.escape(DECORATION)}]*(?:(?P<scale>{_SCALE})|(?i:{_TIE})(?!\w)"
    rf"|(?i:(?:the\s+)?(?:{NOUN})\s*[#_:-]?\s*[\"'(\[*_`]*)?(?P<side>[AB])(?![\w'’+=/&-]))"
)


@dataclass(frozen=True)
class Label:
    """A label and how far its side is ahead: 1 slightly, 2 clearly, None where nobody says."""

    preference: Preference
    steps: int | None = None


def offered(text: str) -> Label | None:
    """The label that a folded text is, decoration aside; None where it is none or more than one."""
    found = _WHOLE.fullmatch(text.strip(DECORATION))
    return _label(found) if found else None


def begun(text: str) -> tuple[Label, int] | None:
    """The label that a folded text begins with, and where it ends."""
    found = _START.match(text)
    label = _label(found) if found else None
    return (label, found.end()) if found and label else None


def _label(found: re.Match[str]) -> Label | None:
    if found["scale"]:
        return _of_scale(found["scale"])
    if found["tie"]:
        return Label(Preference.TIE)
    return Label(Preference(found["side"].upper()))


def _of_scale(text: str) -> Label | None:
    """`A>>B`, `A>B`, `A=B`, `B<A`: who is ahead, and how far."""
    left, sign, right = text[0].upper(), text[1:-1].strip(), text[-1].upper()
    if left == right:
        return None
    if sign == "=":
        return Label(Preference.TIE)
    return Label(Preference(left if ">" in sign else right), min(2, len(sign)))
