"""Where an assistant's turn begins and ends in what a template writes.

The prompt is the template with its generation header. What the assistant then has to write is read
off the finished turn, rendered with marked words in the place of content and thoughts: so nothing
in a text can change how the template reads it, and what stands before, between and behind the words
is the template's own. `docs/design/chat-rendering.md` has the rule and its cases.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from evals.models.chat.templates.template import (
    CONTENT,
    REASONING,
    Asked,
    ChatTemplate,
    TemplateRefusal,
    Turn,
    probe,
    question,
)
from evals.models.chat.templates.thoughts import (
    Marks,
    closed_at_end,
    closing_of,
    closing_text,
    empty_thought,
    marks_in,
    opening_at_end,
)
from schemas.labels import Message

# Space around a marked word: what of it is gone is what the template trims. A vertical tab stands
# next to the word, which no template writes, and runs are longer than any that a template writes.
_RUNS = ("\n\n\n", "   ", "\t\x0b")
_LEFTS = tuple("".join(_RUNS[i:]) for i in range(4))
_RIGHTS = tuple(left[::-1] for left in _LEFTS)
_QUIET: tuple[Any, ...] = (False, "none", "off", "no_think", "disabled", 0, True)
_LOUD: tuple[Any, ...] = (True, "on", "think", "enabled", "high", False)
_AGAINST = "the turn has thoughts, and the template's arguments switch thinking off"
_ABOUT_THOUGHTS = ("think", "reason", "thought")


class ThoughtRefusal(TemplateRefusal):
    """A turn that thinks after a prompt in which thinking is switched off."""


@dataclass(frozen=True)
class Written:
    """An assistant's turn: the prompt, and what has to be written after it.

    `text` goes on to the end of what the template writes. The content stands at
    `text[content_at:content_end]`; both are the text's length where a turn has none. `bare` is the
    prompt without a thought that it opens or closes. `unthought` says that the prompt had to be
    given an empty thought, for the turn has none.
    """

    prompt: str
    bare: str
    text: str
    content_at: int
    content_end: int
    asked: Asked
    unthought: bool


class Turns:
    """Finds assistant turns in what one template writes."""

    def __init__(self, template: ChatTemplate) -> None:
        self.template = template

    def write(self, before: Sequence[Turn], message: Message, asked: Asked) -> Written:
        """An assistant's turn after the turns `before`.

        Where it has no thoughts and the prompt would open one, or the template would write an empty
        one, the template's own argument against thoughts is set; where it has none, the empty
        thought is closed in the prompt.

        Raises:
            TemplateRefusal: the template refuses the turn, or would leave some of it out.
        """
        try:
            written = self._written(before, message, asked)
        except ThoughtRefusal:
            told = self.for_thoughts
            if not told or told.keys() & asked.arguments.keys():
                raise
            return self._written(before, message, asked.told(told))
        if not written.unthought or self.against_thoughts is None:
            return written
        try:
            quiet = self._written(before, message, asked.told(self.against_thoughts))
        except TemplateRefusal:
            return written
        return written if quiet.unthought else quiet

    def prompt(self, before: Sequence[Turn], asked: Asked) -> str:
        """The text that an assistant goes on from."""
        return self.template.write(before, asked, header=True)

    @cached_property
    def against_thoughts(self) -> Mapping[str, Any] | None:
        """The template's own argument against thoughts; None where it has none."""
        answer = probe(content=True)
        return self._argument(answer, _QUIET, lambda written: not written.unthought)

    @cached_property
    def for_thoughts(self) -> Mapping[str, Any] | None:
        """The template's own argument for thoughts; None where it has none."""
        return self._argument(probe(content=True, reasoning=True), _LOUD, lambda written: True)

    def _argument(
        self, answer: Message, values: Sequence[Any], good: Callable[[Written], bool]
    ) -> Mapping[str, Any] | None:
        before = [self.template.turn(question())]
        for name in sorted(self.template.variables):
            if not any(word in name.lower() for word in _ABOUT_THOUGHTS):
                continue
            for value in values:
                try:
                    written = self._written(before, answer, Asked({name: value}))
                except TemplateRefusal:
                    continue
                if good(written):
                    return {name: value}
        return None

    @cached_property
    def marks(self) -> list[Marks]:
        """What opens and closes thoughts: learned from the template, named in it, customary."""
        learned = self.around
        first = [(learned[0].strip(), learned[1].strip())] if learned else []
        return [*first, *marks_in(self.template.source)]

    def opening(self, prompt: str) -> str:
        """The mark that leaves a thought open at the end of a prompt; else the empty text."""
        learned = self.around
        return opening_at_end(prompt, [learned[0].strip()] if learned else [])

    @cached_property
    def around(self) -> Marks | None:
        """What the template writes before and behind thoughts, with the space that goes with it."""
        if not self.template.dialect.reasoning:
            return None
        for calls in (False, True):
            found = self._read_marks(probe(content=not calls, reasoning=True, calls=calls))
            if found:
                return found
        return None

    def _read_marks(self, answer: Message) -> Marks | None:
        template, before = self.template, [self.template.turn(question())]
        try:
            prompt = self.prompt(before, Asked())
            whole = template.write([*before, template.turn(answer)], Asked(), header=False)
        except TemplateRefusal:
            return None
        at = whole.find(REASONING)
        behind = whole[at + len(REASONING) :]
        if at < 0:
            return None
        named = marks_in(template.source)
        closed = closed_at_end(prompt, named)
        prompt = prompt[: len(prompt) - len(closed)]
        opening = whole[_shared(whole[:at], prompt) : at]
        if not opening.strip():  # the prompt has opened it already
            bare = prompt.rstrip()
            opening = prompt[max(bare.rfind("<"), bare.rfind("["), 0) :]
        if CONTENT in behind:
            closing = behind[: behind.find(CONTENT)]
        else:
            mark = closing_of(opening, self._known)
            closing = behind[: behind.find(mark) + len(mark)] if mark in behind else ""
        return (opening, closing) if closing.strip() else None

    def _written(self, before: Sequence[Turn], message: Message, asked: Asked) -> Written:
        prompt = self.prompt(before, asked)
        said, mused = bool(message["content"]), bool(message.get("reasoning"))
        whole = self._marked(before, message, asked)
        words = [word for word, there in ((REASONING, mused), (CONTENT, said)) if there]
        places = [at for at in map(whole.rfind, words) if at >= 0]
        if said and CONTENT not in whole:
            beside = " beside a tool call" if message.get("tool_calls") else ""
            raise TemplateRefusal(f"the chat template leaves out what is said{beside}")
        first = min(places, default=len(whole))
        mark = self.opening(prompt)
        bare = prompt[: len(prompt) - len(mark or closed_at_end(prompt, self.marks))]
        if mused and not mark and len(bare) < len(prompt) and REASONING not in whole:
            raise ThoughtRefusal(_AGAINST)
        start, marked = self._start(before, prompt, bare, whole, first, asked)
        if mused and not mark and not marked and len(bare) < len(prompt):
            raise ThoughtRefusal(_AGAINST)
        text = whole[start:]
        thought = REASONING in text
        if mused and mark and not marked and thought:
            text = _from_padding(text, REASONING)
        empty = "" if mused and thought else self._empty(text)
        text = text[len(empty) :]
        if mused:
            if not thought:
                text = self._thinking(mark) + text
        elif mark:
            prompt += empty if empty and marked else self._closing(mark)
        else:
            prompt += empty
        if mused:
            text = _put(text, REASONING, message["reasoning"] or "")[0]
        at = end = len(text)
        if said:
            text, at, end = _put(text, CONTENT, message["content"])
        return Written(prompt, bare, text, at, end, asked, not mused and bool(mark or empty))

    def _marked(self, before: Sequence[Turn], message: Message, asked: Asked) -> str:
        """The finished turn with marked words in the place of content and thoughts."""
        template = self.template
        bones: Message = {**message}
        if message["content"]:
            bones["content"] = _LEFTS[0] + CONTENT + _RIGHTS[0]
        if message.get("reasoning"):
            bones["reasoning"] = _LEFTS[0] + REASONING + _RIGHTS[0]
        whole = template.write([*before, template.turn(bones)], asked, header=False)
        if message.get("tool_calls"):
            if not template.dialect.calls:
                raise TemplateRefusal("the chat template has no place for tool calls")
            names = {call["function"]["name"] for call in message["tool_calls"] or ()}
            silent = template.write(
                [
                    *before,
                    template.turn(
                        {**bones, "tool_calls": None, "content": bones["content"] or "x"}
                    ),
                ],
                asked,
                header=False,
            )
            if whole == silent or not all(name in whole for name in names):
                raise TemplateRefusal("the chat template leaves tool calls out")
        return whole

    def _start(
        self, before: Sequence[Turn], prompt: str, bare: str, whole: str, first: int, asked: Asked
    ) -> tuple[int, bool]:
        """Where the assistant begins to write, and whether that is the end of the whole prompt.

        It may be the end of the `bare` one, which has no thought opened or closed behind it.
        """
        if whole.startswith(prompt):
            return len(prompt), True
        if whole.startswith(bare):
            return len(bare), False
        try:
            silent = self.template.write(before, asked, header=False)
        except TemplateRefusal:
            silent = ""
        header = prompt[len(silent) :] if silent and prompt.startswith(silent) else ""
        for head, ends in (
            (header, True),
            (header[: len(header) - len(prompt) + len(bare)], False),
        ):
            at = whole.rfind(head, 0, first) if head.strip() else -1
            if at >= 0:
                return at + len(head), ends
        raise TemplateRefusal(
            "the chat template renders a finished turn differently from a generation prompt"
        )

    def _empty(self, text: str) -> str:
        """The empty thought that a turn with a marked word, or none, begins with."""
        at = text.find(CONTENT)
        return empty_thought(text[: at - len(_left_of(text, at))] if at >= 0 else text, self.marks)

    def _closing(self, mark: str) -> str:
        """What closes the thought that a prompt has opened."""
        if self.around and self.around[0].strip() == mark.strip():
            return self.around[1]
        return closing_text(mark, closing_of(mark, self._known))

    def _thinking(self, mark: str) -> str:
        """Thoughts that the template would leave out, as they stand before an answer."""
        if mark:
            return REASONING + self._closing(mark)
        opening, closing = self.around or ("<think>\n", "\n</think>\n\n")
        return opening + REASONING + closing

    @cached_property
    def _known(self) -> list[str]:
        return [t for t in self.template.tokenizer.get_added_vocab() if t in self.template.source]


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _from_padding(text: str, word: str) -> str:
    """The text from a marked word on, with the space that is left around it."""
    at = text.find(word)
    return text[at - len(_left_of(text, at)) :]


def _left_of(text: str, at: int) -> str:
    return next(left for left in _LEFTS if text.endswith(left, 0, at))


def _put(text: str, word: str, said: str) -> tuple[str, int, int]:
    """The text with `said` for a marked word, trimmed as the word was; and where it stands."""
    at = text.rfind(word)
    end = at + len(word)
    left = _left_of(text, at)
    right = next(one for one in _RIGHTS if text.startswith(one, end))
    if left != _LEFTS[0]:
        said = said.lstrip(_LEFTS[0].removesuffix(left) if left else None)
    if right != _RIGHTS[0]:
        said = said.rstrip(_RIGHTS[0].removeprefix(right) if right else None)
    start = at - len(left)
    return text[:start] + said + text[end + len(right) :], start, start + len(said)
