"""A tokenizer's chat template as a function from messages to text.

Templates disagree on how they want to be told things: content as text or as parts, the arguments of
a tool call as an object or as JSON text, thoughts under one key or another. `Dialect` is what one
of them understands, found out by showing it marked words and looking where they come out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import Any, Literal

from jinja2 import Environment, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from transformers import PreTrainedTokenizerBase

from schemas.errors import DataError
from schemas.labels import Message, Messages

Turn = dict[str, Any]

# Words that no template changes and no conversation has.
USER, SYSTEM, CONTENT, REASONING = "zqaskqz", "zqruleqz", "zqsaidqz", "zqmusedqz"
NAME, KEY, VALUE = "zqcalledqz", "zqkeyqz", "zqvalueqz"

_REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
_CALL_ID = "call00001"  # nine letters and digits, as Mistral's templates want


class _Generation(Extension):
    """The block that marks what an assistant says, for parsing alone."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        next(parser.stream)
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body)


class TemplateRefusal(DataError):
    """A conversation that a chat template refuses, or would not render whole."""


@dataclass(frozen=True)
class Asked:
    """What a template is given beside the messages."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    tools: Sequence[Mapping[str, Any]] | None = None

    def told(self, arguments: Mapping[str, Any]) -> "Asked":
        """The same with some arguments set."""
        return replace(self, arguments={**self.arguments, **arguments})

    @property
    def key(self) -> str:
        """What tells it from others."""
        return json.dumps([self.arguments, self.tools], sort_keys=True, default=str)


@dataclass(frozen=True)
class Dialect:
    """How a template wants to be told what a message has.

    `reasoning` names the keys that thoughts are given under, none where it writes no thoughts;
    `calls` is False where it writes no tool calls.
    """

    content: Literal["text", "parts"] = "text"
    reasoning: tuple[str, ...] = ()
    developer: Literal["developer", "system"] = "developer"
    calls: bool = True
    arguments: Literal["object", "text"] = "object"
    empty: Literal["text", "null"] = "text"
    call_ids: bool = False


class ChatTemplate:
    """Renders messages; whatever a template raises is its refusal."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, today: date) -> None:
        self.tokenizer = tokenizer
        self.today = today

    @cached_property
    def source(self) -> str:
        """The text of the template, of all where there are several."""
        template = self.tokenizer.chat_template
        return template if isinstance(template, str) else json.dumps(template, sort_keys=True)

    @cached_property
    def variables(self) -> frozenset[str]:
        """Names of the arguments that the template looks at."""
        templates = self.tokenizer.chat_template
        sources = templates.values() if isinstance(templates, dict) else [templates]
        found: set[str] = set()
        for source in sources:
            try:
                tree = Environment(extensions=["jinja2.ext.loopcontrols", _Generation]).parse(
                    source
                )
            except TemplateError:
                continue
            found |= {name.name for name in tree.find_all(nodes.Name) if name.ctx == "load"}
        return frozenset(found)

    @property
    def reads_the_clock(self) -> bool:
        """Whether the day is part of what it writes."""
        return "strftime_now" in self.source

    def write(self, turns: Sequence[Turn], asked: Asked, *, header: bool) -> str:
        """The text of turns, as the template wants them; with the generation header or without.

        Raises:
            TemplateRefusal: it does not render them.
        """
        told = {"strftime_now": self.today.strftime, **asked.arguments}
        tools = None if asked.tools is None else [dict(tool) for tool in asked.tools]
        try:
            text = self.tokenizer.apply_chat_template(
                list(turns), tools=tools, tokenize=False, add_generation_prompt=header, **told
            )
        except Exception as error:  # a template is a program of somebody else's
            said = " ".join(str(error).split()) or type(error).__name__
            raise TemplateRefusal(f"the chat template refuses the conversation: {said}") from error
        return str(text)

    def turns(self, messages: Messages) -> list[Turn]:
        """Messages as the template wants them."""
        return [self.turn(message) for message in messages]

    def turn(self, message: Message) -> Turn:
        """A message as the template wants it."""
        return as_turn(message, self.dialect)

    @cached_property
    def dialect(self) -> Dialect:
        """What this template understands."""
        dialect = Dialect(content=self._content())
        developer = self._takes([{"role": "developer", "content": SYSTEM}], SYSTEM, dialect)
        system = self._takes([{"role": "system", "content": SYSTEM}], SYSTEM, dialect)
        if system and not developer:
            dialect = replace(dialect, developer="system")
        dialect = replace(dialect, reasoning=self._reasoning_keys(dialect))
        return self._calls(dialect)

    def _content(self) -> Literal["text", "parts"]:
        told: Turn = {"role": "user", "content": USER}
        parts: Turn = {"role": "user", "content": [{"type": "text", "text": USER}]}
        if USER not in self._try([told]) and USER in self._try([parts]):
            return "parts"
        return "text"

    def _takes(self, before: list[Message], word: str, dialect: Dialect) -> bool:
        asked: Message = {"role": "user", "content": USER}
        return word in self._try([as_turn(m, dialect) for m in [*before, asked]])

    def _reasoning_keys(self, dialect: Dialect) -> tuple[str, ...]:
        for keys in (_REASONING_KEYS, *((key,) for key in _REASONING_KEYS)):
            tried = replace(dialect, reasoning=keys)
            for call in (False, True):
                answer = probe(calls=call, content=not call, reasoning=True)
                text = self._try([as_turn(m, tried) for m in (question(), answer)], header=False)
                if text.count(REASONING) == 1:
                    return keys
        return ()

    def _calls(self, dialect: Dialect) -> Dialect:
        for call_ids in (False, True):
            for empty in ("text", "null"):
                for arguments in ("object", "text"):
                    tried = replace(
                        dialect,
                        call_ids=call_ids,
                        empty=empty,
                        arguments=arguments,
                    )
                    turns = [as_turn(m, tried) for m in (question(), probe(calls=True))]
                    text = self._try(turns, header=False)
                    words = all(word in text for word in (NAME, KEY, VALUE))
                    if words and repr({KEY: VALUE}) not in text:
                        return tried
        return replace(dialect, calls=False)

    def _try(self, turns: list[Turn], *, header: bool = True) -> str:
        try:
            return self.write(turns, Asked(), header=header)
        except TemplateRefusal:
            return ""


def question() -> Message:
    """A user's turn with a marked word in it."""
    return {"role": "user", "content": USER}


def probe(*, content: bool = False, reasoning: bool = False, calls: bool = False) -> Message:
    """An assistant's turn with marked words in it."""
    message: Message = {"role": "assistant", "content": CONTENT if content else ""}
    if reasoning:
        message["reasoning"] = REASONING
    if calls:
        function = {"name": NAME, "arguments": json.dumps({KEY: VALUE})}
        message["tool_calls"] = [{"function": function}]  # type: ignore[typeddict-item]
    return message


def as_turn(message: Message, dialect: Dialect) -> Turn:
    """A message in the form that a template of this dialect reads."""
    role = message["role"]
    turn: Turn = {"role": dialect.developer if role == "developer" else role}
    content: Any = message["content"]
    calls = message.get("tool_calls")
    if calls and not content and dialect.empty == "null":
        content = None
    elif dialect.content == "parts":
        content = [{"type": "text", "text": content}]
    turn["content"] = content
    if message.get("reasoning"):
        turn |= dict.fromkeys(dialect.reasoning or _REASONING_KEYS[:1], message["reasoning"])
    if calls:
        turn["tool_calls"] = [_call(call, dialect) for call in calls]
    for key in ("name", "tool_call_id"):
        if message.get(key):
            turn[key] = message.get(key)
    if message.get("extra"):
        turn = {**json.loads(message["extra"] or "{}"), **turn}
    return turn


def _call(call: Mapping[str, Any], dialect: Dialect) -> Turn:
    function = call["function"]
    arguments: Any = function["arguments"]
    if dialect.arguments == "object":
        arguments = json.loads(arguments or "{}")
    made: Turn = {
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }
    if call.get("id") or dialect.call_ids:
        made["id"] = call.get("id") or _CALL_ID
    return made
