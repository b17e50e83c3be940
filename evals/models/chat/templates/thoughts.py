"""Where a template opens and closes a thought, by the marks that it writes.

Marks are known by their names (`<think>`, `[THINK]`, `<|channel>thought`), and by where a template
puts what a message thought.
"""

import re
from collections.abc import Collection, Iterable

Marks = tuple[str, str]
"""What opens a thought and what closes it, without the space around them."""

_NAME = r"(?:think|thought|thoughts|thinking|reason|reasoning|reflection|cot)"
_MARK = (
    rf"(?:<[|｜]?(?:[a-z0-9]+[:_▁-])*{_NAME}(?:[_▁-](?:start|begin))?[|｜]?>"
    rf"|\[{_NAME}\]|<[|｜]channel[|｜]?>(?:thought|analysis)(?:<[|｜]message[|｜]>)?)"
)
_AT_END = re.compile(rf"{_MARK}\s*\Z", re.IGNORECASE)
_WORDS = (("start", "end"), ("begin", "end"), ("open", "close"), ("START", "END"), ("BEGIN", "END"))


def opening_at_end(text: str, learned: Iterable[str] = ()) -> str:
    """The mark, with the space behind it, that opens a thought at the end of a text; else empty."""
    found = _AT_END.search(text[-120:])
    if found:
        return found[0]
    bare = text.rstrip()
    mark = next((one for one in learned if one and bare.endswith(one)), "")
    return text[len(bare) - len(mark) :] if mark else ""


def closing_of(opening: str, known: Collection[str] = ()) -> str:
    """The mark that closes what `opening` opens; `known` are marks that there are."""
    mark = opening.strip()
    candidates = [f"{mark[0]}/{mark[1:]}"]
    if mark[1:2] in ("|", "｜"):
        candidates.append(f"{mark[:2]}/{mark[2:]}")
    candidates += [mark.replace(start, end) for start, end in _WORDS if start in mark]
    if re.match(r"<\|channel>", mark):
        candidates.insert(0, "<channel|>")
    if re.match(r"<\|channel\|>", mark):
        candidates.insert(0, "<|end|>")
    return next((one for one in candidates if one in known), candidates[0])


def closing_text(opening: str, closing: str) -> str:
    """What closes an empty thought that `opening` has opened, with the space that goes with it."""
    return f"\n{closing}\n\n" if opening.endswith("\n") else closing


def marks_in(source: str) -> list[Marks]:
    """The marks that a template's source names, opening and closing, and the customary ones."""
    found = re.findall(_MARK, source, re.IGNORECASE)
    pairs = [(one, closing_of(one)) for one in dict.fromkeys(found)]
    return [pair for pair in pairs if pair[1] in source] + [("<think>", "</think>")]


def empty_thought(text: str, marks: Iterable[Marks]) -> str:
    """The thought without a thought in it that a text begins with; else the empty text.

    A lone closing mark is one too: the prompt has opened it, or nothing has.
    """
    for opening, closing in marks:
        pattern = rf"\s*(?:{re.escape(opening)}\s*)?{re.escape(closing)}\s*"
        if closing and (found := re.match(pattern, text)):
            return found[0]
    return ""


def closed_at_end(text: str, marks: Iterable[Marks]) -> str:
    """The empty thought that a text ends with; else the empty text."""
    for opening, closing in marks:
        pattern = rf"(?:{re.escape(opening)}\s*)?{re.escape(closing)}\s*\Z"
        if closing and (found := re.search(pattern, text[-200:])):
            return found[0]
    return ""


def names_a_thought(token: str) -> bool:
    """Whether a token is a mark of a thought, by its name."""
    opened = re.sub(r"^([<\[][|｜]?)/", r"\1", token)
    return bool(
        re.fullmatch(_MARK, opened, re.I)
        or re.search(rf"end[_▁-]?{_NAME}|{_NAME}[_▁-]end", token, re.I)
    )
