"""Conversations as they are found in the wild, as the messages that everything here works on.

Read are OpenAI's and TRL's turns (`role`, `content` as a text or a list of text parts,
`tool_calls`, `reasoning_content` or `thinking`), ShareGPT's (`from`, `value`), and conversations in
a string: as JSON, as Python writes a list, or as a transcript. Text that a chat template has
already rendered is refused, as are pictures and sound. Nothing vanishes: keys that are not read are
kept in `extra`.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.errors import DataError
from schemas.labels import Message, Messages, ToolCall
from schemas.patterns import late

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})

_ROLE_NAMES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"} | {
    "chatgpt": "assistant", "function": "tool", "ipython": "tool", "observation": "tool",
    "function_response": "tool", "tool_response": "tool",
}  # fmt: skip
_REASONING = ("reasoning", "reasoning_content", "thinking")
_READ = {"role", "from", "content", "value", "tool_calls", "tool_call_id", "name", *_REASONING}
_PICTURES = frozenset({"image", "image_url", "input_image", "video", "video_url"})
_SOUND = frozenset({"audio", "input_audio", "audio_url"})

THINK_BLOCK = late(
    r"\s*(?:<think>(?P<tag>.*?)</think>|\[THINK\](?P<bracket>.*?)\[/THINK\])", re.DOTALL
)

_OPENED = late(r"\s*(?:<think>|\[THINK\])")

_TURN = late(r"(?:^|\n\n)(Human|User|Assistant|System): ?", re.IGNORECASE)
_CONTROL = (
    r"(?:<[|｜][^<>|｜\s]{1,40}[|｜]>|<(?:start|end)_of_turn>|<bos>|</?s>|\[/?INST\]|<\|turn>)"
)
_RENDERED = late(rf"\s*{_CONTROL}.*?{_CONTROL}", re.DOTALL)


class ConversationError(DataError):
    """A conversation that cannot be read; `reason` is a code to count by."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def normalise_messages(turns: object, *, split_thinking: bool = True) -> list[Message]:
    """The turns of a conversation.

    Args:
        turns: a list of messages, one message, or the JSON text of either.
        split_thinking: move the think block that an assistant's text begins with to `reasoning`.

    Raises:
        ConversationError: no conversation, or one with something in it that has no place here.
    """
    if isinstance(turns, str):
        turns = _parsed(turns)
    if isinstance(turns, Mapping):
        turns = [turns]
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise ConversationError("not_a_conversation", "is no list of messages")
    return [_message(turn, number, split_thinking) for number, turn in enumerate(turns)]


def messages_of(value: object, role: str = "user") -> list[Message]:
    """A conversation, or a text that `role` has said, where it is not a conversation itself.

    Raises:
        ConversationError: what `normalise_messages` raises, or text that is rendered already.
    """
    if not isinstance(value, str):
        return normalise_messages(value)
    if looks_like_json(value):
        return normalise_messages(value)
    if is_rendered(value):
        raise ConversationError(
            "rendered_text",
            "is text that a chat template has rendered already; give the conversation as messages",
        )
    return transcript(value) or [_thinking_apart({"role": role, "content": value})]


def looks_like_json(text: str) -> bool:
    """Whether a text is a list of messages, or one, as JSON or Python writes it."""
    return bool(re.match(r"\s*\[?\s*\{\s*['\"](?:role|from|content|value)['\"]\s*:", text))


def is_rendered(text: str) -> bool:
    """Whether a text begins with control tokens of a chat template, as rendered turns do."""
    return bool(_RENDERED.match(text))


def transcript(text: str) -> list[Message] | None:
    """The turns of a text like `Human: … Assistant: …`; None where it is no transcript.

    It is one where it begins with a person's turn and an assistant's follows, which may be empty:
    it is left out then, as it is what has to be written.
    """
    if not re.match(r"\s*(?:Human|User|System): ?", text, re.IGNORECASE):
        return None
    parts = _TURN.split("\n\n" + text.strip("\n"))[1:]
    names = [_ROLE_NAMES.get(name.lower(), name.lower()) for name in parts[::2]]
    named = list(zip(names, parts[1::2], strict=True))
    if not any(role == "assistant" for role, _ in named):
        return None
    turns: list[Message] = [{"role": role, "content": said.strip()} for role, said in named]
    if turns[-1]["role"] == "assistant" and not turns[-1]["content"]:
        turns.pop()
    return turns


def split_thinking(text: str) -> tuple[str, str] | None:
    """Thoughts and answer of a text that begins with a think block; None where none is closed."""
    found = THINK_BLOCK.match(text)
    if found is None:
        return None
    thought = found["tag"] if found["tag"] is not None else found["bracket"]
    return thought.strip(), text[found.end() :].lstrip("\r\n")


def arguments_text(arguments: object) -> str:
    """The arguments of a tool call as the JSON text of an object.

    Raises:
        ConversationError: they are none.
    """
    try:
        value = json.loads(arguments or "{}") if isinstance(arguments, str) else arguments or {}
    except ValueError as error:
        raise ConversationError(
            "bad_tool_call", f"the arguments of a tool call are no JSON ({error})"
        ) from error
    if not isinstance(value, Mapping):
        raise ConversationError("bad_tool_call", "the arguments of a tool call are no object")
    if isinstance(arguments, str) and arguments.strip():
        return arguments
    return json.dumps(value, ensure_ascii=False)


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise ConversationError(
            "not_a_conversation", "is a text where a list of messages is needed"
        ) from error


def _message(turn: object, number: int, split: bool) -> Message:
    where = f"message {number}"
    if not isinstance(turn, Mapping):
        raise ConversationError("not_a_conversation", f"{where} is no object")
    role = turn.get("role") if turn.get("role") is not None else turn.get("from")
    if not isinstance(role, str) or not role:
        raise ConversationError("no_role", f"{where} says no role")
    role = _ROLE_NAMES.get(role.lower(), role.lower())
    if role not in ROLES:
        raise ConversationError(
            "unknown_role", f"{where} is of the role {role!r}; known are {', '.join(sorted(ROLES))}"
        )
    message: Message = {"role": role, "content": _content(turn, where)}
    calls = _tool_calls(turn.get("tool_calls"), where)
    if calls:
        message["tool_calls"] = calls
    elif ("content" not in turn and "value" not in turn) or _said(turn) is None:
        raise ConversationError("no_content", f"{where} has no content")
    reasoning = next((turn[key] for key in _REASONING if turn.get(key)), None)
    if reasoning is not None:
        if not isinstance(reasoning, str):
            raise ConversationError("bad_reasoning", f"{where}: reasoning is no text")
        message["reasoning"] = reasoning
    _take(message, turn, where)
    return _thinking_apart(message) if split else message


def _take(message: Message, turn: Mapping[str, Any], where: str) -> None:
    """Whose result it is, and the keys that are not read."""
    if turn.get("tool_call_id") is not None:
        message["tool_call_id"] = str(turn["tool_call_id"])
    if turn.get("name") is not None:
        message["name"] = str(turn["name"])
    rest = {k: v for k, v in turn.items() if k not in _READ and v is not None}
    if isinstance(rest.get("extra"), str):  # as our own tables have it
        extra = _object(rest.pop("extra"), where)
        rest = {**extra, **rest}
    if rest:
        message["extra"] = json.dumps(rest, ensure_ascii=False, sort_keys=True, default=str)


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return value if isinstance(value, dict) else {"extra": text}


def thought_and_answer(message: Message) -> tuple[str, str]:
    """What an assistant thought and what it said; a think block in its text is a thought too."""
    thought, said = message.get("reasoning") or "", message["content"]
    if message["role"] != "assistant" or thought:
        return thought, said
    return split_thinking(said) or ("", said)


def is_cut_in_thought(completion: Messages, finish_reason: str | None) -> bool:
    """Whether a completion ran out of tokens inside its thoughts: it has no answer to be judged."""
    last = completion[-1] if completion else None
    if last is None or last.get("tool_calls"):
        return False
    thought, said = thought_and_answer(last)
    if not thought and _OPENED.match(said) and last["role"] == "assistant":
        return True
    return finish_reason == "length" and bool(thought) and not said.strip()


def _thinking_apart(message: Message) -> Message:
    if message["role"] != "assistant" or message.get("reasoning"):
        return message
    apart = split_thinking(message["content"])
    if apart is None:
        return message
    thought, answer = apart
    message["content"] = answer
    if thought:
        message["reasoning"] = thought
    return message


def _said(turn: Mapping[str, Any]) -> object:
    return turn["content"] if turn.get("content") is not None else turn.get("value")


def _content(turn: Mapping[str, Any], where: str) -> str:
    said = _said(turn)
    if said is None or isinstance(said, str):
        return said or ""
    if isinstance(said, Sequence):
        return "".join(_part(part, where) for part in said)
    raise ConversationError("bad_content", f"{where}: content is neither a text nor a list")


def _part(part: object, where: str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        kind = str(part.get("type", "text"))
        held = {kind, *(key for key, value in part.items() if value is not None)}
        if held & (_PICTURES | _SOUND):
            raise ConversationError(
                "not_text", f"{where} has a picture or sound in it; prefline reads text alone"
            )
        if isinstance(part.get("text"), str):
            return str(part["text"])
    raise ConversationError("bad_content", f"{where}: a part of the content is no text")


def _tool_calls(calls: object, where: str) -> list[ToolCall]:
    if not calls:
        return []
    if isinstance(calls, str):
        calls = _parsed(calls)
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise ConversationError("bad_tool_call", f"{where}: tool_calls is no list")
    return [_tool_call(call, where) for call in calls]


def _tool_call(call: object, where: str) -> ToolCall:
    if not isinstance(call, Mapping):
        raise ConversationError("bad_tool_call", f"{where}: a tool call is no object")
    function = call["function"] if isinstance(call.get("function"), Mapping) else call
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise ConversationError("bad_tool_call", f"{where}: a tool call has no name")
    made: ToolCall = {
        "function": {"name": name, "arguments": arguments_text(function.get("arguments"))}
    }
    if call.get("id") is not None:
        made["id"] = str(call["id"])
    return made
