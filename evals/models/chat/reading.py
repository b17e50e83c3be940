"""The message that tokens spell, read back with what the template is known to write around it."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from evals.models.chat.templates.ends import Ends
from evals.models.chat.templates.template import (
    KEY,
    NAME,
    VALUE,
    Asked,
    TemplateRefusal,
    probe,
    question,
)
from evals.models.chat.templates.turns import Turns
from schemas.conversations import split_thinking
from schemas.labels import Message, ToolCall

_OTHER_KEY, _OTHER_VALUE, _OTHER_NAME = "zqotherkeyqz", "zqothervalueqz", "zqothernameqz"
_NUMBER = 70917


@dataclass(frozen=True)
class Read:
    """What an assistant has written; `unfinished` thoughts were cut before they were closed."""

    message: Message
    unfinished: bool = False


@dataclass(frozen=True)
class _Arguments:
    """Arguments that are marked up one by one: what stands around keys and values.

    `around` are what stands before and behind a value, by how it is written: as text, and as JSON.
    """

    before: str
    around: tuple[tuple[str, str], tuple[str, str]]
    between: tuple[str, str]


@dataclass(frozen=True)
class _Calls:
    """What a template writes around the calls of a turn. `arguments` None: they are one JSON.

    `betweens` and `behinds` follow the last argument of a call, where another comes and where none
    does, in the ways that depend on what kind of value it is.
    """

    before: str
    middle: str
    behinds: tuple[str, ...]
    betweens: tuple[str, ...]
    arguments: _Arguments | None


class Reader:
    """Reads messages back from what an assistant has written."""

    def __init__(self, turns: Turns, ends: Ends) -> None:
        self._turns = turns
        self._ends = ends

    def read(self, prompt: str, text: str, *, begun: bool = False) -> Read:
        """The message in a text that went on from a prompt, or from a beginning of the answer.

        The token that ended it is taken off already.
        """
        mark = self._turns.opening(prompt)
        thought, rest, unfinished = self._thoughts(mark, text)
        if unfinished:
            return Read({"role": "assistant", "content": "", "reasoning": thought}, True)
        before, calls = self._calls_in(rest)
        message: Message = {
            "role": "assistant",
            "content": self._content(before, bool(calls), begun),
        }
        if thought:
            message["reasoning"] = thought
        if calls:
            message["tool_calls"] = calls
        return Read(message)

    def length_of_thoughts(self, prompt: str, text: str) -> int | None:
        """Characters at the start of what was written that are thoughts, marks and all.

        None where they are cut off: there is nothing else.
        """
        _, rest, unfinished = self._thoughts(self._turns.opening(prompt), text)
        return None if unfinished else len(text) - len(rest)

    def _thoughts(self, mark: str, text: str) -> tuple[str, str, bool]:
        """Thoughts, what follows them, and whether they are cut off."""
        for opening, closing in self._turns.marks:
            if mark and opening != mark.strip():
                continue
            bare = text if mark else text.lstrip()
            if not mark and not bare.startswith(opening):
                continue
            inside = bare if mark else bare[len(opening) :]
            around = closing if closing in inside else _first_mark(closing)
            at = inside.find(around)
            if at < 0:
                return inside.strip(), "", True
            behind = inside[at + len(around) :]
            return inside[:at].strip(), self._after_thoughts(behind), False
        apart = split_thinking(text)
        return (*apart, False) if apart else ("", text, False)

    def _after_thoughts(self, text: str) -> str:
        """An answer without the space that a template puts between thoughts and it."""
        around = self._turns.around
        gap = around[1][len(around[1].rstrip()) :] if around else "\n\n"
        for length in range(len(gap), 0, -1):
            if text.startswith(gap[-length:]):
                return text[length:]
        return text.lstrip("\n") if not around else text

    @property
    def around_content(self) -> tuple[str, str]:
        """What stands before and behind the content of an answer, without its end."""
        return self._plain

    @cached_property
    def _plain(self) -> tuple[str, str]:
        """What stands before and behind the content of a first answer, without its end."""
        try:
            written = self._turns.write(
                [self._turns.template.turn(question())], probe(content=True), Asked()
            )
        except TemplateRefusal:
            return "", ""
        tail = written.text[written.content_end :]
        at = tail.rfind(self._ends.of(Asked(), calls=False).text)
        return written.text[: written.content_at], tail[:at] if at >= 0 else tail

    @cached_property
    def _header(self) -> str:
        """What begins an assistant's turn; some templates leave it to the assistant."""
        template = self._turns.template
        before = [template.turn(question())]
        try:
            prompt = template.write(before, Asked(), header=True)
            return prompt.removeprefix(template.write(before, Asked(), header=False))
        except TemplateRefusal:
            return ""

    def _content(self, text: str, calls: bool, begun: bool) -> str:
        lead, tail = self._plain
        lead = "" if begun else lead
        if self._header.strip() and text.startswith(self._header):
            text = text[len(self._header) :]
        if lead and text.startswith(lead):
            text = text[len(lead) :]
        elif lead.strip() and text.lstrip().startswith(lead.lstrip()):
            text = text.lstrip()[len(lead.lstrip()) :]
        if tail and text.endswith(tail):
            text = text[: len(text) - len(tail)]
        return text.strip() if calls else text

    def _calls_in(self, text: str) -> tuple[str, list[ToolCall]]:
        """The text beside tool calls, and the calls."""
        form = self._form
        if form is None:
            return text, []
        opening = re.search(_with_names(form.before.strip()), text) if form.before.strip() else None
        if opening is None:
            return text, []
        found, rest = self._parse(form, text[opening.end() :])
        if not found:
            return text, []
        behind = next((one for one in form.behinds if one and rest.startswith(one)), "")
        return text[: opening.start()] + self._said(rest[len(behind) :]), found

    def _said(self, text: str) -> str:
        """A text behind tool calls; nothing where marks alone are left."""
        bare = text
        for token in self._ends.tokens:
            bare = bare.replace(token, "")
        return text if bare.strip() else ""

    def _parse(self, form: _Calls, text: str) -> tuple[list[ToolCall], str]:
        """The calls that a text begins with, the first one's name first, and what follows them."""
        calls: list[ToolCall] = []
        rest = text.lstrip() if form.before != form.before.rstrip() else text
        while True:
            one = _one_call(form, rest)
            if one is None:
                return calls, rest
            call, rest = one
            calls.append(call)
            found = (re.match(_with_names(one), rest) for one in form.betweens if one)
            between = next((one for one in found if one), None)
            if between is None:
                return calls, rest
            rest = rest[between.end() :]

    @cached_property
    def _form(self) -> _Calls | None:
        """How this template writes tool calls; None where it does not, or in no way known here."""
        if not self._turns.template.dialect.calls:
            return None
        one = self._text([(NAME, {KEY: VALUE})])
        name = one.find(NAME)
        if name < 0:
            return None
        before, rest = one[:name], one[name + len(NAME) :]
        lead = self._plain[0]
        before = before[len(lead) :] if lead and before.startswith(lead) else before
        last = rest.rfind(NAME, 0, rest.find(KEY))
        if last >= 0:  # a name that is written twice
            before += NAME + rest[:last]
            rest = rest[last + len(NAME) :]
        betweens = tuple(self._between(value) for value in (VALUE, _NUMBER))
        place = _json_place(rest)
        if place is not None:
            written = rest[slice(*place)]
            closing = written[written.find(VALUE) + len(VALUE) :]
            betweens = (betweens[0].removeprefix(closing),)
            return _Calls(before, rest[: place[0]], (rest[place[1] :],), betweens, None)
        at, value = rest.find(KEY), rest.find(VALUE)
        if not 0 <= at < value:
            return None
        more = self._text([(NAME, {KEY: VALUE, _OTHER_KEY: _OTHER_VALUE})])
        number = self._text([(NAME, {KEY: _NUMBER, _OTHER_KEY: _NUMBER})])
        arguments = _marked_up(rest, more, number)
        if arguments is None:
            return None
        behinds = tuple(around[1] for around in arguments.around)
        closings = tuple(
            _shared(behind, between) or behind
            for behind, between in zip(behinds, betweens, strict=True)
        )
        around = tuple(
            (opening, closing)
            for (opening, _), closing in zip(arguments.around, closings, strict=True)
        )
        arguments = replace(arguments, around=(around[0], around[1]))
        return _Calls(before, "", behinds, betweens, arguments)

    def _between(self, value: Any) -> str:
        """What stands between the last argument of a call and the name of the next."""
        two = self._text([(NAME, {KEY: value}), (_OTHER_NAME, {KEY: value})])
        at = two.find(str(value))
        second = two.rfind(_OTHER_NAME, 0, two.rfind(KEY))
        between = two[at + len(str(value)) : second] if 0 <= at < second else ""
        return between.replace(_OTHER_NAME, NAME)

    def _text(self, calls: Sequence[tuple[str, dict[str, Any]]]) -> str:
        """A turn that makes these calls and says nothing, without its end."""
        message: Message = {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"function": {"name": name, "arguments": json.dumps(arguments)}}
                for name, arguments in calls
            ],
        }
        template = self._turns.template
        try:
            text = self._turns.write([template.turn(question())], message, Asked()).text
        except TemplateRefusal:
            return ""
        end = text.rfind(self._ends.of(Asked(), calls=True).text)
        return text[:end] if end >= 0 else text


def _with_names(text: str) -> str:
    """A pattern for a text in which the probe's name stands for any."""
    return r"[\w.:/-]+?".join(map(re.escape, text.split(NAME)))


def _shared(one: str, other: str) -> str:
    """What two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return one[: next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))]


def _first_mark(text: str) -> str:
    """The first mark of a text that has several."""
    found = re.match(r"<[^<>]+>|\[[^\[\]]+\]", text)
    return found[0] if found else text


def _json_place(text: str) -> tuple[int, int] | None:
    """Where the arguments of the probe stand in a text as one JSON object."""
    for at in (i for i, letter in enumerate(text) if letter == "{"):
        try:
            value, end = json.JSONDecoder().raw_decode(text, at)
        except ValueError:
            continue
        if value == {KEY: VALUE}:
            return at, end
    return None


def _marked_up(one: str, more: str, number: str) -> _Arguments | None:
    """What stands around keys and values, from probes with one and two arguments, and numbers."""
    key, value = one.find(KEY), one.find(VALUE)
    said = str(_NUMBER)
    first, second = more.find(VALUE), more.find(_OTHER_KEY)
    n_key, n_value = number.find(KEY), number.find(said)
    n_second = number.find(_OTHER_KEY)
    if min(key, value, first, second, n_key, n_value, n_second) < 0:
        return None
    text_between = more[first + len(VALUE) : second]
    number_between = number[n_value + len(said) : n_second]
    last = number.rfind(said)
    return _Arguments(
        before=one[:key],
        around=(
            (one[key + len(KEY) : value], one[value + len(VALUE) :]),
            (number[n_key + len(KEY) : n_value], number[last + len(said) :]),
        ),
        between=(text_between, number_between),
    )


def _one_call(form: _Calls, text: str) -> tuple[ToolCall, str] | None:
    """The call that a text begins with, its name first, and what follows its last argument."""
    after_name = form.middle if form.arguments is None else form.arguments.before
    at = text.find(after_name) if after_name else -1
    if at <= 0 and form.arguments is None and not after_name:
        at = text.find("{")
    if at <= 0:
        return None
    name, rest = text[:at], text[at + len(after_name) :]
    if form.arguments is None:
        try:
            value, end = json.JSONDecoder().raw_decode(rest)
        except ValueError:
            return None
        return _made(name, value, rest[end:])
    found = _read_arguments(form.arguments, rest)
    return _made(name, *found) if found else None


def _made(name: str, value: object, rest: str) -> tuple[ToolCall, str] | None:
    if not isinstance(value, dict) or not re.fullmatch(r"[\w.:/-]+", name.strip()):
        return None
    arguments = json.dumps(value, ensure_ascii=False)
    return {"function": {"name": name.strip(), "arguments": arguments}}, rest


def _read_arguments(form: _Arguments, text: str) -> tuple[dict[str, Any], str] | None:
    """Keys and values marked up one by one, and what follows them.

    A value is text where it stands in the marks of text; where texts and other values have the same
    marks, one that is JSON and no text is what it says.
    """
    found: dict[str, Any] = {}
    while True:
        one = _read_argument(form, text)
        if one is None:
            return (found, text) if found else None
        key, value, text, more = one
        found[key] = value
        if not more:
            return found, text


def _read_argument(form: _Arguments, text: str) -> tuple[str, Any, str, bool] | None:
    """Key, value, what follows, and whether another argument does."""
    best: tuple[int, str, Any, str, bool] | None = None
    same = form.around[0] == form.around[1]
    for is_text, ((opening, behind), between) in enumerate(
        zip(reversed(form.around), reversed(form.between), strict=True)
    ):
        at = text.find(opening)
        if at <= 0:
            continue
        key, rest = text[:at], text[at + len(opening) :]
        if not re.fullmatch(r"[\w.-]+", key):
            continue
        for stop, more in ((between, True), (behind, False)):
            end = rest.find(stop) if stop else len(rest)
            if end < 0:
                continue
            said = rest[:end]
            value = said if is_text and not same else _value(said)
            if not is_text and not same and isinstance(value, str):
                continue
            place = at + len(opening) + end
            if best is None or place < best[0]:
                best = (place, key, value, rest[end + len(stop) :] if more else rest[end:], more)
    return best[1:] if best else None


def _value(said: str) -> Any:
    """A value that is written without saying whether it is text."""
    try:
        value = json.loads(said)
    except ValueError:
        return said
    return said if isinstance(value, str) else value
