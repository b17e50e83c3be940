"""Whether a template renders a conversation whole: no turn, tool call or tool may vanish."""

import json
from typing import Any

from evals.models.chat.templates.template import Asked, ChatTemplate, TemplateRefusal
from schemas.labels import Message

_SHAPES_KEPT = 4096


class Whole:
    """Finds what one template leaves out, with marked words in the place of all that is said.

    What a text says does not matter, so each shape of conversation is looked at once.
    """

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._known: dict[str, str | None] = {}

    def refuse_what_is_left_out(self, messages: list[Message], asked: Asked) -> None:
        """Nothing, where the prompt has every turn, tool call and tool in it.

        Raises:
            TemplateRefusal: it does not; the message says what is missing.
        """
        shape = json.dumps([[_shape(m) for m in messages], asked.key], default=str)
        if shape not in self._known:
            if len(self._known) >= _SHAPES_KEPT:
                self._known.clear()
            self._known[shape] = self._left_out(messages, asked)
        problem = self._known[shape]
        if problem is not None:
            raise TemplateRefusal(problem)

    def _left_out(self, messages: list[Message], asked: Asked) -> str | None:
        template = self._template
        marked = [_marked(message, number) for number, message in enumerate(messages)]
        tools = [_marked_tool(tool, i) for i, tool in enumerate(asked.tools or ())] or None
        told = Asked(asked.arguments, tools)
        try:
            text = template.write(template.turns(marked), told, header=True)
        except TemplateRefusal:  # it looks into what is said: then the words themselves decide
            return None
        for number, message in enumerate(messages):
            if message["content"] and _word(number) not in text:
                return f"the chat template leaves out the turn of {message['role']} ({number + 1})"
            for i, _ in enumerate(message.get("tool_calls") or ()):
                if _word(number, i) not in text:
                    return f"the chat template leaves out a tool call of turn {number + 1}"
        if any(_word(-1, i) not in text for i, _ in enumerate(tools or ())):
            return "the chat template leaves out the tools"
        return None


def _word(number: int, call: int | None = None) -> str:
    letters = "".join(chr(ord("a") + int(d)) for d in str(number + 1))
    return f"zq{letters}qz" if call is None else f"zq{letters}x{chr(ord('a') + call % 26)}qz"


def _shape(message: Message) -> tuple[str, bool, bool, int, bool]:
    return (
        message["role"],
        bool(message["content"]),
        bool(message.get("reasoning")),
        len(message.get("tool_calls") or ()),
        bool(message.get("name")),
    )


def _marked(message: Message, number: int) -> Message:
    marked: Message = {**message}
    if message["content"]:
        marked["content"] = _word(number)
    if message.get("tool_calls"):
        marked["tool_calls"] = [
            {
                **call,
                "function": {"name": _word(number, i), "arguments": '{"zqkeyqz": "zqvalueqz"}'},
            }
            for i, call in enumerate(message["tool_calls"] or ())
        ]
    return marked


def _marked_tool(tool: Any, number: int) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool.get("function"), dict) else None
    if function is None:
        return {**tool, "name": _word(-1, number)}
    return {**tool, "function": {**function, "name": _word(-1, number)}}
