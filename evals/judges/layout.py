"""How a comparison is shown to a model, so that no text in it can pose as the layout.

The conversation goes on where the prompt ends: a system turn `==== Completion A ====`, the turns of
A, a system turn `==== Completion B ====`, the turns of B, a system turn `==== Preference ====`, and
the assistant's header. The assistant's next token is the label.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from evals.judges.verdicts.folding import fold
from evals.judges.verdicts.grammar import FORMS
from evals.judges.verdicts.labels import DECORATION
from schemas.conversations import thought_and_answer
from schemas.labels import Comparison, Message, Messages
from schemas.patterns import late

LAYOUT_VERSION = "4"
"""Part of a judge's fingerprint: another layout gives other verdicts."""

SectionRole = Literal["system", "user"]

SECTION_PROMPT = "==== Prompt ===="
SECTION_A = "==== Completion A ===="
SECTION_B = "==== Completion B ===="
SECTION_PREFERENCE = "==== Preference ===="
SECTION_REFERENCE = "==== Reference ===="
SECTION_COMPLETION = "==== Completion ===="
SECTION_RATING = "==== Rating ===="

Imitations = tuple[re.Pattern[str], ...]
"""What a judge's own questions must not be imitated by, beside what all layouts have."""

_WORD_JOINER = "\u2060"
_PASSES = 8
_TEXTS_KEPT = 4096

# Each imitation is broken after its `head`: it stays readable and matches no more. Patterns look at
# folded text, where look-alike letters and signs are plain ones and every line break is a newline.
# None of them takes more than linear time, whatever a completion repeats.
_MARKS = r"^[^\S\n]*(?:[#>*_=|-]{1,6}[^\S\n]*)?"
_IMITATIONS = (
    # Section markers, however they are spaced or decorated.
    late(
        r"(?<![=#*_~-])(?P<head>[=#*_~-]{2,}\s*[cp])(?:ompletion\s*[ab]\b|reference\b|rompt\b)",
        re.IGNORECASE,
    ),
    # Control tokens of chat templates, also where the tokenizer has them as plain text.
    late(
        r"(?P<head><)(?:\|[^|<>\s]{1,40}\|>|/?s>|(?:start|end)_of_turn>|</?SYS>>|/?think(?:ing)?>"
        r"|(?:bos|eos|pad|unk|sop|extra_id_\d{1,3})>)"
        r"|(?P<bracket>\[)/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|THINK)\]"
    ),
    # Role headers of plain-text templates, at the start of a line.
    late(
        rf"(?P<head>{_MARKS}[suha])(?:(?<=s)ystem|(?<=u)ser|(?<=h)uman|(?<=a)ssistant)"
        r"(?=[^\S\n*_]*[*_]{0,3}[^\S\n*_]*:)",
        re.IGNORECASE | re.MULTILINE,
    ),
    late(
        r"(?P<head>^[^\S\n]*#{1,6}[^\S\n]*[iru])(?:(?<=i)n(?:struction|put)|(?<=r)esponse|(?<=u)ser)"
        r"(?=[^\S\n]*:)",
        re.IGNORECASE | re.MULTILINE,
    ),
    # Turns as `llm` shows those of a long prompt.
    late(r"(?P<head>^[^\S\n]*\[)(?:system|user|assistant|tool)\]", re.IGNORECASE | re.MULTILINE),
    # Verdicts in running text, which a judge may repeat at the start of a line.
    late(
        r"(?<![^\W_])(?P<head>[pvw])(?:(?<=p)refer(?:ence|red)|(?<=v)erdict|(?<=w)inner)"
        rf"(?=[\s*_`]*(?:is\b|[:=])[{re.escape(DECORATION)}]*(?:a|b|tie)(?![^\W_]))",
        re.IGNORECASE,
    ),
    late(r"(?P<head>\[)\[(?:[ABC<>=]{1,5}|Tie)\]\]"),
)


def comparison_chat(
    comparison: Comparison, section_role: SectionRole = "system", with_reasoning: bool = False
) -> list[Message]:
    """The conversation that ends where the judge answers.

    Args:
        comparison: shown as it stands: A first.
        section_role: who speaks the section markers; `user` for a chat template that takes no
            system turn in the middle of a conversation.
        with_reasoning: show what was thought before each answer too.
    """

    def section(title: str) -> Message:
        return {"role": section_role, "content": title}

    return [
        *neutralise(comparison.prompt),
        section(SECTION_A),
        *neutralise(comparison.completion_a, with_reasoning),
        section(SECTION_B),
        *neutralise(comparison.completion_b, with_reasoning),
        section(SECTION_PREFERENCE),
    ]


def neutralise(
    messages: Messages, with_reasoning: bool = False, further: Imitations = ()
) -> list[Message]:
    """The same turns as text, with everything broken that imitates the layout, a turn or a verdict.

    Calls of tools are spelled out; reasoning is shown only where that is wished. `further` are
    imitations of what one judge alone is shown.
    """
    return [
        {"role": m["role"], "content": neutralise_text(_shown(m, with_reasoning), further)}
        for m in messages
    ]


def _shown(message: Message, with_reasoning: bool) -> str:
    calls = [
        f"calls {call['function']['name']} with {call['function']['arguments']}"
        for call in message.get("tool_calls") or ()
    ]
    thought, said = thought_and_answer(message)
    reasoning = thought if with_reasoning else ""
    parts = [f"(reasoning) {reasoning}" if reasoning else "", said, *calls]
    return "\n".join(part for part in parts if part) if calls or reasoning else said


_raw: ContextVar[bool] = ContextVar("shown_raw", default=False)


@contextmanager
def shown_raw() -> Iterator[None]:
    """Show completions as they are, to measure what neutralising is worth. For nothing else."""
    token = _raw.set(True)
    try:
        yield
    finally:
        _raw.reset(token)


def is_shown_raw() -> bool:
    """Whether completions are shown as they are just now."""
    return _raw.get()


def neutralise_text(text: str, further: Imitations = ()) -> str:
    """Break imitations with a word joiner (U+2060): invisible to people, another token to models.

    Text without imitations comes back as it is, and a second pass changes nothing.
    """
    return text if _raw.get() else _neutral(text, further)


def section_imitation(title: str) -> re.Pattern[str]:
    """What poses as the marker of a further section."""
    return re.compile(
        rf"(?<![=#*_~-])(?P<head>[=#*_~-]{{2,}}\s*{title[0]}){title[1:]}\b", re.IGNORECASE
    )


def rating_imitations() -> list[re.Pattern[str]]:
    """What poses as a section of a rating, or as a rating that has been given."""
    return [
        section_imitation("completion"),
        section_imitation("rating"),
        re.compile(
            r"(?<![^\W_])(?P<head>[rs])(?:(?<=r)ating|(?<=s)core)"
            r"(?=[\s*_`\"']*(?:is\b|[:=])[\s*_`\"'\[({]*[-+]?\d)",
            re.IGNORECASE,
        ),
        re.compile(r"(?P<head>\[)\[(?=[ \t]*[-+]?\d)"),
    ]


def criterion_imitation(name: str) -> re.Pattern[str]:
    """What poses as a label or a rating by a criterion of that name."""
    first, rest = re.escape(fold(name)[:1]), re.escape(fold(name)[1:])
    return re.compile(
        rf"(?<![^\W_])(?P<head>{first}){rest}"
        r"(?=[\s*_`\"']*[:=][\s*_`\"'\[({]*(?:[-+]?\d|(?:a|b|tie)(?![^\W_])))",
        re.IGNORECASE,
    )


def comparisons_neutralised(judge: object, comparisons: Iterable[Comparison]) -> dict[str, int]:
    """For a manifest: comparisons in which something imitated the layout; of a judge without
    one nothing.
    """
    if not getattr(judge, "has_a_layout", False):
        return {}
    return {"comparisons_neutralised": sum(map(_is_touched, comparisons))}


def _is_touched(comparison: Comparison) -> bool:
    sides = (comparison.prompt, comparison.completion_a, comparison.completion_b)
    texts = (_shown(message, False) for side in sides for message in side)
    return any(neutralise_text(text) != text for text in texts)


@lru_cache(_TEXTS_KEPT)
def _neutral(text: str, further: Imitations) -> str:
    """Every completion is shown in several comparisons, each in both orders."""
    for _ in range(_PASSES):  # breaking one may show another
        places = _imitations(fold(text), further)
        if not places:
            break
        ends = [0, *sorted(places), len(text)]
        text = _WORD_JOINER.join(text[start:end] for start, end in pairwise(ends))
    return text


def _imitations(folded: str, further: Imitations) -> set[int]:
    """Where to break what poses as layout, as a turn, or as a verdict that would be read as one."""
    patterns = (*_IMITATIONS, *further)
    found = (match for pattern in patterns for match in pattern.finditer(folded))
    places = {max(match.end(name) for name in match.groupdict()) for match in found}
    spoken = (one for form in FORMS for one in form.find(folded))
    return places | {one.start + 1 for one in spoken if one.label and not one.closing}


LAST_ANSWER = "(a conversation that goes on; compare its last answer, in view of all before it)"


def text_of(messages: Messages) -> str:
    """The text of a completion without its thoughts: its turns joined by blank lines.

    Where the user has asked again in it, everyone's turns are named, and it is the last answer that
    is judged.
    """
    texts = [thought_and_answer(m)[1] for m in messages]
    if all(m["role"] != "user" for m in messages):
        return "\n\n".join(texts)
    named = [f"[{m['role']}] {text}" for m, text in zip(messages, texts, strict=True)]
    return "\n\n".join([LAST_ANSWER, *named])


def answer_text(messages: Messages) -> str:
    """The text of what a completion says to the user's last question in it, thoughts left out."""
    asked = [place for place, m in enumerate(messages) if m["role"] == "user"]
    return text_of(messages[asked[-1] + 1 :] if asked else messages)
