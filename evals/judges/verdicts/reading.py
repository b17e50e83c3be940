"""From a reply to the verdict that a careful person reads in it."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from evals.judges.verdicts.contradictions import contradicted
from evals.judges.verdicts.folding import fold
from evals.judges.verdicts.grammar import FORMS, Form, Statement, statements
from evals.judges.verdicts.labels import DECORATION, Label, begun, offered
from evals.judges.verdicts.thinking import without_thinking
from schemas.labels import Preference
from schemas.patterns import late

_LONGEST = 200_000
"""Characters of a reply that are read, its last ones."""

_OPTION_CHARACTERS = 60
_NOTHING = late(rf"[{re.escape(DECORATION)}$\\\-]*")
# Before a label: a form that is described, not used.
_DESCRIBED = late(
    r"\b(?:format|e\.g\.|for example|such as|either|one of|options?|must|should|would|could|might"
    r"|instructed|asked|told|if|not|n't)\b[^.!?\n]{0,60}$",
    re.IGNORECASE,
)
# In the line before: somebody else's words follow.
_QUOTED = late(
    r"(?:completion|response|answer|assistant|option|text|it|which|that|author|user|line|prompt)\b"
    r"[^.!?\n]{0,80}\b(?:says?|said|contains?|states?|includes?|ends?|writes?|wrote|reads?|claims?"
    r"|adds?|inserts?|embeds?|has|had|is|line|quote[sd]?|phrase)\b[^.!?\n]{0,60}:?[ \t\"'`*]*$",
    re.IGNORECASE,
)
_CONDITION = late(
    r"[\"'*_`)\]]{0,6}[ \t]{0,4}"
    r"(?:,?[ \t]{0,4}(?:if|when|where|for|means|stands for|in case|wenn|si|se|если)\b|如果|の場合)",
    re.IGNORECASE,
)


def last_verdict(text: str, forms: Sequence[Form] = FORMS) -> Preference | None:
    """The label that a reply ends up with; None where it states none that was on offer."""
    label = read_label(text, forms)
    return label.preference if label else None


def read_label(text: str, forms: Sequence[Form] = FORMS) -> Label | None:
    """The label that a reply ends up with, and how far it says that side to be ahead.

    Thoughts are dropped first. A reply that is nothing but a label counts, or whose first line is;
    else the last statement does, unless something contradicts it afterwards, or it is one of
    several options that are listed. None where a careful person would not be sure.
    """
    answer = without_thinking(text[-_LONGEST:])
    if not answer:
        return None
    folded = fold(answer)
    if forms is FORMS:
        whole = offered(folded) or _sentence(folded)
        if whole is not None:
            return whole
    found = _own_words(folded, statements(folded, forms))
    return _settled(folded, found) if found else (_headline(folded) if forms is FORMS else None)


def _own_words(text: str, found: Sequence[Statement]) -> list[Statement]:
    """The statements that are the reply's own: no conditions, no descriptions, no quotations."""
    own = []
    for one in found:
        line_start = text.rfind("\n", 0, one.start) + 1
        before = text[max(line_start, one.start - 120) : one.start]
        above = _line_above(text, line_start)
        described = _DESCRIBED.search(before) and before.strip(DECORATION + ">#|-")
        quoted = not before.strip(DECORATION + ">#|-") and _QUOTED.search(above)
        if described or quoted or _CONDITION.match(text, one.end):
            continue
        own.append(one)
    return own


def _line_above(text: str, line_start: int) -> str:
    lines = text[max(0, line_start - 400) : line_start].rstrip().rsplit("\n", 1)
    return lines[-1]


def _settled(text: str, found: Sequence[Statement]) -> Label | None:
    """The label of the last statement, where it stands alone and uncontradicted."""
    last = found[-1]
    rest = text[last.end :]
    if last.label is None or last in _listed(text, found):
        return None
    if last.closing and not _NOTHING.fullmatch(rest):
        return None
    return None if contradicted(rest, last.label.preference) else last.label


def _listed(text: str, found: Sequence[Statement]) -> set[Statement]:
    """Statements of different labels with nothing but separators between: a list of options.

    Three or more different ones in neighbouring lines are one too, whatever stands beside them.
    """
    listed: set[Statement] = set()
    for run in _runs(text, found, _only_separated):
        if len({one.label.preference if one.label else None for one in run}) > 1:
            listed.update(run)
    for run in _runs(text, found, _neighbours):
        if len({one.label for one in run}) > 2:
            listed.update(run)
    return listed


def _only_separated(between: str) -> bool:
    return bool(_SEPARATORS.fullmatch(between)) and "\n\n" not in between.replace(" ", "")


def _neighbours(between: str) -> bool:
    return len(between) <= _OPTION_CHARACTERS and between.count("\n") <= 1


_SEPARATORS = late(
    r"[\s,;/|.*_`>\"'()-]*(?:or|and|oder|ou|o|или|或者?|または)?[\s,;/|.*_`>\"'()-]*"
)


def _runs(
    text: str, found: Sequence[Statement], together: Callable[[str], bool]
) -> Iterator[list[Statement]]:
    run = [found[0]]
    for one, other in pairwise(found):
        if together(text[one.end : other.start]):
            run.append(other)
        else:
            yield run
            run = [other]
    yield run


def _sentence(text: str) -> Label | None:
    """`Completion B is better.`, where that is all."""
    if len(text) > 120 or "\n" in text.strip():
        return None
    first = begun(text)
    if first is None or not _BETTER.fullmatch(text, first[1]):
        return None
    return first[0]


_BETTER = late(
    r"[\"'*_`)\]]*[ \t]+(?:is|was)[ \t]+(?:clearly |slightly |much |significantly |the )*"
    r"(?:better|best|stronger|superior|preferred|preferable|winner)"
    r"(?:[ \t]+(?:one|completion|response|answer|choice))?"
    r"(?:[ \t]+than[ \t]+(?:the[ \t]+)?(?:completion|response|answer|option|assistant)?[ \t]*[AB])?"
    r"[.!*_` ]*",
    re.IGNORECASE,
)


def _headline(text: str) -> Label | None:
    """A label alone in the first line, with reasons after it."""
    first, _, rest = text.partition("\n")
    label = offered(first)
    if label is None or contradicted(rest, label.preference):
        return None
    return label
