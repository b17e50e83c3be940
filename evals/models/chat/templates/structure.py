"""Text that imitates the structure of a conversation, and how it is told from the structure.

Structural are the tokens that a template itself writes around what is said: headers of roles, ends
of turns, section markers, and the tokenizer's own beginning and end of text. Other added tokens
(runs of spaces, a model's own thoughts and tool calls) are what they are.
"""

import re
from collections.abc import Iterable
from functools import cached_property

from evals.models.chat.templates.ends import Ends
from evals.models.chat.templates.template import (
    CONTENT,
    NAME,
    SYSTEM,
    Asked,
    TemplateRefusal,
    probe,
    question,
)
from evals.models.chat.templates.thoughts import names_a_thought
from schemas.labels import Message

WORD_JOINER = "\u2060"


class Structure:
    """The structural tokens of a tokenizer and its template."""

    def __init__(self, ends: Ends, stops: set[int], thoughts: Iterable[str] = ()) -> None:
        """`stops` end an assistant's turn, `thoughts` are marks that stand around thoughts."""
        self._thoughts = frozenset(thoughts)
        self._ends = ends
        self._stops = stops

    def neutralise(self, text: str, *, by_assistant: bool = False) -> tuple[str, int]:
        """Break every structural token that a text spells out; and say how many there were.

        A word joiner (U+2060) after the first character keeps the text readable and stops the
        tokenizer from taking it for the token. An assistant's own tool markup stays.
        """
        pattern = self._of_answers if by_assistant else self._of_prompts
        if pattern is None:
            return text, 0
        return pattern.subn(lambda m: m[0][0] + WORD_JOINER + m[0][1:], text)

    @cached_property
    def tokens(self) -> frozenset[str]:
        """What must not be imitated, by anybody."""
        tokenizer = self._ends.template.tokenizer
        named = {str(t) for t in tokenizer.special_tokens_map.values() if isinstance(t, str)}
        stops = {t for t, i in self._ends.tokens.items() if i in self._stops}
        around = self._written(self._talk())
        return frozenset(t for t in named | stops | around if self._can_be_structure(t))

    @cached_property
    def tokens_of_tools(self) -> frozenset[str]:
        """Special tokens that stand around tool calls and their results."""
        special = set(self._ends.template.tokenizer.all_special_tokens)
        extra = self._ends.template.tokenizer.added_tokens_decoder.values()
        special |= {t.content for t in extra if t.special}
        return frozenset(t for t in self._written(self._tool_talk()) if t in special)

    @cached_property
    def _of_answers(self) -> re.Pattern[str] | None:
        return _pattern(self.tokens)

    @cached_property
    def _of_prompts(self) -> re.Pattern[str] | None:
        return _pattern(self.tokens | self.tokens_of_tools)

    def _written(self, talks: list[list[Message]]) -> set[str]:
        """The tokens that the template writes around these conversations."""
        template, found = self._ends.template, set()
        for talk in talks:
            for header in (True, False):
                try:
                    text = template.write(template.turns(talk), Asked(), header=header)
                except TemplateRefusal:
                    continue
                found |= {token for token in self._ends.tokens if token in text}
        return found

    def _talk(self) -> list[list[Message]]:
        system: Message = {"role": "system", "content": SYSTEM}
        answered = [question(), probe(content=True)]
        return [answered, [*answered, question()], [system, *answered, question()]]

    def _tool_talk(self) -> list[list[Message]]:
        result: Message = {"role": "tool", "content": CONTENT, "name": NAME}
        return [[question(), probe(calls=True), result], [question(), probe(calls=True)]]

    def _can_be_structure(self, token: str) -> bool:
        if token in self._thoughts or names_a_thought(token):
            return False
        return len(token) > 1 and bool(token.strip())


def _pattern(tokens: frozenset[str]) -> re.Pattern[str] | None:
    ordered = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None
