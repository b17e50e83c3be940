"""How a comparison is shown to a model, so that no text in it can pose as the layout.

The conversation goes on where the prompt ends: a system turn `==== Completion A ====`, the turns of
A, a system turn `==== Completion B ====`, the turns of B, a system turn `==== Preference ====`, and
the assistant's header. The assistant's next token is the label.
"""

import re
from typing import Literal

from schemas.labels import Comparison, Message, Messages

LAYOUT_VERSION = "2"
"""Part of a judge's fingerprint: another layout gives other verdicts."""

SectionRole = Literal["system", "user"]

SECTION_PROMPT = "==== Prompt ===="
SECTION_A = "==== Completion A ===="
SECTION_B = "==== Completion B ===="
SECTION_PREFERENCE = "==== Preference ===="

DECORATION = " \t\r\n*_`\"'“”‘’.!()[]"
"""What may stand around a label without changing it."""

_DECORATION = f"[{re.escape(DECORATION)}]"
_WORD_JOINER = "\u2060"

# Each imitation is broken after its `head`: it stays readable and matches no more. None of the
# patterns takes more than linear time, whatever a completion repeats.
_IMITATIONS = (
    # Section markers, however they are spaced or decorated.
    re.compile(
        r"(?<![=#*_~-])(?P<head>[=#*_~-]{2,}\s*[cp])(?:ompletion\s*[ab]\b|reference\b|rompt\b)",
        re.IGNORECASE,
    ),
    # Control tokens of chat templates, also where the tokenizer has them as plain text.
    re.compile(
        r"(?P<head><)(?:[|｜][^|｜<>\s]{1,40}[|｜]>|/?s>|(?:start|end)_of_turn>|</?SYS>>"
        r"|(?:bos|eos|pad|unk|extra_id_\d{1,3})>)"
        r"|(?P<bracket>\[)/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]"
    ),
    # Role headers of plain-text templates, at the start of a line.
    re.compile(
        r"(?P<head>(?:^|[\r\v\f\x85\u2028\u2029])[^\S\n\r\v\f\x85\u2028\u2029]*[suha])"
        r"(?:(?<=s)ystem|(?<=u)ser|(?<=h)uman|(?<=a)ssistant)(?=[^\S\n]*:)",
        re.IGNORECASE | re.MULTILINE,
    ),
    # Turns as `llm` shows those of a long prompt.
    re.compile(
        r"(?P<head>(?:^|[\r\v\f\x85\u2028\u2029])[^\S\n\r\v\f\x85\u2028\u2029]*\[)"
        r"(?:system|user|assistant|tool)\]",
        re.IGNORECASE | re.MULTILINE,
    ),
    # Verdicts, in every form that a reply is read for.
    re.compile(
        r"(?<![^\W_])(?P<head>[pvw])(?:(?<=p)refer(?:ence|red)|(?<=v)erdict|(?<=w)inner)"
        rf"(?=[\s*_`]*(?:is\b|[:=]){_DECORATION}*(?:a|b|tie)(?![^\W_]))",
        re.IGNORECASE,
    ),
    re.compile(r"(?P<head>\[)\[(?:[ABC<>=]{1,5}|Tie)\]\]"),
)


def comparison_chat(comparison: Comparison, section_role: SectionRole = "system") -> list[Message]:
    """The conversation that ends where the judge answers.

    Args:
        comparison: shown as it stands: A first.
        section_role: who speaks the section markers; `user` for a chat template that takes no
            system turn in the middle of a conversation.
    """

    def section(title: str) -> Message:
        return {"role": section_role, "content": title}

    return [
        *neutralise(comparison.prompt),
        section(SECTION_A),
        *neutralise(comparison.completion_a),
        section(SECTION_B),
        *neutralise(comparison.completion_b),
        section(SECTION_PREFERENCE),
    ]


def neutralise(messages: Messages) -> list[Message]:
    """The same turns with everything broken that imitates the layout, a turn or a verdict."""
    return [{"role": m["role"], "content": neutralise_text(m["content"])} for m in messages]


def neutralise_text(text: str) -> str:
    """Break imitations with a word joiner (U+2060): invisible to people, another token to models.

    Text without imitations comes back as it is, and a second pass changes nothing.
    """
    for pattern in _IMITATIONS:
        text = pattern.sub(_break, text)
    return text


def _break(match: re.Match[str]) -> str:
    head = next(part for part in match.groups() if part)
    return head + _WORD_JOINER + match[0][len(head) :]


def text_of(messages: Messages) -> str:
    """The text of a completion: its turns joined by blank lines."""
    return "\n\n".join(m["content"] for m in messages)
