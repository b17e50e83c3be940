"""The forms in which a reply states its verdict: one table, which a user's own form joins.

Every form is a pattern over folded text (see `folding`). What it finds is a statement: where it
stands, and the label it gives, None where what stands there was not on offer. The layout breaks
whatever these forms would find in a completion, so that no completion speaks for the judge.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.judges.verdicts.folding import fold
from evals.judges.verdicts.labels import Label, begun, offered
from schemas.patterns import late


@dataclass(frozen=True)
class Statement:
    """A verdict as it stands in a reply: `[start, end)` of the text.

    `closing` says that it counts only where nothing follows it.
    """

    start: int
    end: int
    label: Label | None
    closing: bool = False


@dataclass(frozen=True)
class Form:
    """One way to state a verdict."""

    name: str
    find: Callable[[str], Iterator[Statement]]


_KEYS = (
    *("verdict", "final_verdict", "winner", "preference", "preferred", "better", "choice"),
    *("decision", "judgment", "judgement", "answer", "final_answer", "label", "best", "result"),
)


def _words(*words: str) -> str:
    """Any of the words, folded as a text is: a capital may look Latin where a small one does not.

    Words of other letters than Latin ones are given in the case they are written in.
    """
    folded = dict.fromkeys(
        fold(w) for word in words for w in (word, word.capitalize(), word.upper())
    )
    cased = (w for w in folded if not w.isascii() or w in words)
    return "|".join(re.sub(r"\s+", r"[ \\t]+", word) for word in cased)


_NOUNS = r"(?:completion|response|answer|assistant|option|output|reply|one|candidate|model)"
_VERDICT = _words(
    *("verdict", "judge?ment", "decision", "winner", "preference", "preferred", "final answer"),
    *("final choice", "urteil", "entscheidung", "gewinner", "sieger", "décision", "jugement"),
    *("gagnante?", "veredicto", "decisión", "ganadora?", "veredito", "decisão", "vencedora?"),
    *("verdetto", "decisione", "vincitore", "werdykt", "zwycięzca", "oordeel", "winnaar"),
    *("вердикт", "победитель", "решение", "判决", "判決", "裁决", "裁決", "最终答案", "最終答案"),
    *("最终判断", "最終判断", "胜者", "勝者", "优胜者", "判定", "결론", "판정", "평결", "승자"),
    *("निर्णय", "फैसला", "الحكم", "القرار", "phán quyết", "karar", "kazanan"),
)
_ANSWER = _words(
    *("answer", "choice", "conclusion", "result", "my pick", "antwort", "fazit", "ergebnis"),
    *("réponse", "choix", "respuesta", "elección", "conclusión", "resposta", "conclusão"),
    *("risposta", "conclusione", "ответ", "вывод", "答案", "结论", "結論", "选择", "選擇"),
    *("答え", "回答", "답"),
)
_ANSWER += rf"|(?:better|best|preferred|superior|stronger)[ \t]+{_NOUNS}"
_MARKS = r"[ \t>*_#`~|•]{0,12}(?:\d{1,2}[.)][ \t]{0,4}|-[ \t]{0,4})?[ \t*_`\"'\[]{0,6}"
_LEAD = (
    r"(?i:(?:so|thus|therefore|hence|overall|finally|in[ \t]+conclusion|mein|mon|ma|mi|meu|moi)"
    r"[,:]?[ \t]{1,4})?"
    r"(?i:(?:my|the|our|final|overall|le|la|el|o|il|das|die|der)[ \t]{1,4}){0,3}"
    r"(?:最终|最終|我的|最后)?"
)
_BETWEEN = (
    r"[ \t*_`\"'\])]{0,8}"
    r"(?::|=|->|→|\b(?:is|ist|est|es|é)\b:?|(?<=[ \t])--?(?=[ \t]))"
)


def _anchored(words: str, *, closing: bool) -> Callable[[str], Iterator[Statement]]:
    """`Verdict: A` on a line of its own; or the word alone, and the label in the next line."""
    same_line = rf"{_BETWEEN}(?P<line>[^\n]*)"
    next_line = r"[ \t*_`#:=]{0,12}\n(?=(?:[ \t]{0,12}\n){0,2}(?P<next>[^\n]*))"
    pattern = late(
        rf"^(?P<start>{_MARKS}){_LEAD}(?i:{words})(?:{next_line}|{same_line})", re.MULTILINE
    )

    def find(text: str) -> Iterator[Statement]:
        for found in pattern.finditer(text):
            if found["next"] is not None:
                label = offered(found["next"])
                if label is not None:
                    yield Statement(found.end("start"), found.end("next"), label, closing)
                continue
            line = _LATEX.sub(lambda m: " " * len(m[0]), found["line"])
            yield _of_line(line, found.start("line"), found.end("start"), closing)

    return find


_LATEX = late(r"\\(?:boxed|text(?:bf|it)?|mathbf|mathrm)[ \t]*\{")


def _of_line(line: str, place: int, start: int, closing: bool) -> Statement:
    whole = offered(line)
    if whole is not None:
        return Statement(start, place + len(line), whole, closing)
    first = begun(line)
    if first is None:
        return Statement(start, place + len(line), None, closing)
    return Statement(start, place + first[1], first[0], closing)


def _after_a_sentence(text: str) -> Iterator[Statement]:
    """`... . Verdict: B` at the end of a line that begins otherwise."""
    for found in _IN_LINE.finditer(text):
        label = offered(found["line"])
        if label is not None:
            yield Statement(found.start("word"), found.end(), label, closing=True)


_IN_LINE = late(
    rf"(?:(?<=[.!?;)][ \t])|(?<=[。！？，；]))[*_`]*(?P<word>{_LEAD}(?i:{_VERDICT}))"
    rf"{_BETWEEN}(?P<line>[^\n]{{1,40}})$",
    re.MULTILINE,
)


def _brackets(text: str) -> Iterator[Statement]:
    """`[[A]]`, `[[A>>B]]`, and `[[C]]`, which is MT-Bench's tie."""
    for found in re.finditer(r"\[\[([^\[\]\n]{1,40})\]\]", text):
        inside = found[1].strip()
        label = offered("Tie" if inside.upper() == "C" else inside)
        yield Statement(found.start(), found.end(), label)


def _boxed(text: str) -> Iterator[Statement]:
    r"""`\boxed{A}`, `\boxed{\text{Completion B}}`."""
    for found in re.finditer(
        r"\\boxed[ \t]*\{[ \t]*(?:\\[a-z]{2,8}[ \t]*\{)?(?P<inside>[^{}\n]{1,40})\}{1,2}", text
    ):
        yield Statement(found.start(), found.end(), offered(found["inside"]), closing=True)


def _tags(text: str) -> Iterator[Statement]:
    """`<verdict>A</verdict>`."""
    for found in re.finditer(
        r"<(verdict|answer|winner|preference|choice)>([^<>]{1,40})</\1>", text, re.IGNORECASE
    ):
        yield Statement(found.start(), found.end(), offered(found[2]))


def json_form(keys: Sequence[str]) -> Form:
    """A JSON object with one of `keys`, which gives the label; its other keys say nothing."""
    wanted = {fold(key).casefold() for key in keys}
    pattern = late(rf"\"(?:{'|'.join(map(re.escape, sorted(wanted)))})\"[ \t\n]*:", re.IGNORECASE)

    def find(text: str) -> Iterator[Statement]:
        end = 0
        for found in list(pattern.finditer(text))[-_OBJECTS_TRIED:]:
            if found.start() < end:
                continue
            read = _object_around(text, found.start())
            if read is None:
                yield Statement(found.start(), found.end(), None)
                continue
            start, end, value = read
            said = {k.casefold(): v for k, v in value.items() if k.casefold() in wanted}
            labels = {offered(v) if isinstance(v, str) else None for v in said.values()}
            yield Statement(start, end, labels.pop() if len(labels) == 1 else None)

    return Form("json", find)


_BRACES_TRIED = 4
_OBJECTS_TRIED = 100  # the last ones: a verdict stands at the end


def _object_around(text: str, place: int) -> tuple[int, int, Mapping[str, Any]] | None:
    """The innermost JSON object that begins before `place` and holds it."""
    start = place
    for _ in range(_BRACES_TRIED):
        start = text.rfind("{", max(0, start - 20_000), start)
        if start < 0:
            return None
        try:
            value, end = json.JSONDecoder(strict=False).raw_decode(text[start : start + 40_000])
        except (ValueError, RecursionError):
            continue
        if start + end > place and isinstance(value, dict):
            return start, start + end, value
    return None


def pattern_form(pattern: str) -> Form:
    """A user's own pattern: its group `verdict`, else its first group, else all of it."""
    compiled = re.compile(pattern, re.MULTILINE)

    def find(text: str) -> Iterator[Statement]:
        for found in compiled.finditer(text):
            groups = found.groupdict()
            inside = groups.get("verdict") or (found[1] if compiled.groups else found[0])
            yield Statement(
                found.start(), max(found.end(), found.start() + 1), offered(inside or "")
            )

    return Form("pattern", find)


FORMS: tuple[Form, ...] = (
    Form("verdict", _anchored(_VERDICT, closing=False)),
    Form("answer", _anchored(_ANSWER, closing=True)),
    Form("sentence", _after_a_sentence),
    Form("brackets", _brackets),
    Form("boxed", _boxed),
    Form("tags", _tags),
    json_form(_KEYS),
)
"""The forms that are read where nobody declares another one."""


def statements(text: str, forms: Sequence[Form] = FORMS) -> list[Statement]:
    """All statements of a folded text, in the order of their ends; none inside another."""
    found = sorted(
        (s for form in forms for s in form.find(text)), key=lambda s: (s.start, -s.end, s.closing)
    )
    kept: list[Statement] = []
    for one in found:
        if kept and one.start < kept[-1].end:
            continue
        kept.append(one)
    return kept
