"""Rows of a JSON Lines file as `prefline render` shows them: each conversation, in tokens."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from evals.models.chat.renderer import ChatRenderer
from evals.models.chat.templates.named_templates import dressed
from evals.models.chat.templates.template import TemplateRefusal
from evals.models.checkpoints import is_missing_folder, library_errors
from schemas.conversations import ConversationError, messages_of, normalise_messages
from schemas.errors import ConfigError, DataError, MissingInputError
from schemas.files import read_record
from schemas.labels import Message, Messages

_SIDES = ("completion", "chosen", "rejected")
_CONVERSATION = ("messages", "conversations", "conversation")


@dataclass(frozen=True)
class _Conversation:
    """A prompt and a completion, which is None where a row asks only for the prompt."""

    prompt: Messages
    completion: Messages | None
    tools: Sequence[Mapping[str, Any]] | None
    arguments: Mapping[str, Any]


def open_renderer(
    model: str, arguments: Mapping[str, Any] | None = None, chat_template: str | None = None
) -> ChatRenderer:
    """The renderer of a model's folder, of one with a tokenizer alone, or of a hub id, today.

    Raises:
        MissingInputError: no such folder.
        BackendError: there is no tokenizer.
        ConfigError: it has no chat template, or one that cannot be used.
    """
    if is_missing_folder(model):
        raise MissingInputError(f"{model}: no such folder; correct its path, or give a hub id")
    with library_errors(f"{model}: no tokenizer", "check the name, or save one into the folder"):
        tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer = dressed(tokenizer, chat_template, arguments or {}, date.today())
    return ChatRenderer(tokenizer)


def rendered_rows(path: Path, renderer: ChatRenderer) -> Iterator[dict[str, Any]]:
    """One record for each conversation of a file, `error` alone where it cannot be rendered.

    A row with `messages` is one conversation, a row with `chosen` and `rejected` two.

    Raises:
        MissingInputError: no such file.
        DataError: it is no text.
    """
    try:
        lines = read_record(path).splitlines()
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such file; correct its path") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    for line in lines:
        if line.strip():
            yield from rendered_line(line, renderer)


def rendered_line(line: bytes, renderer: ChatRenderer) -> Iterator[dict[str, Any]]:
    """The records of one line."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        yield {"error": f"the line is no JSON ({str(error).splitlines()[0]})"}
        return
    if not isinstance(row, dict):
        yield {"error": "the line is no JSON object"}
        return
    sides: list[str | None] = [side for side in _SIDES if side in row]
    sides = sides or [None]
    for side in sides:
        try:
            yield record(renderer, _conversation(row, side))
        except (DataError, ConfigError) as error:
            said = " ".join(str(error).split())
            yield {"error": f"the conversation {said}" if said.startswith("is ") else said}


def record(renderer: ChatRenderer, one: _Conversation) -> dict[str, Any]:
    """What is shown of a conversation. Raises what rendering it raises."""
    asked = renderer.asked(one.arguments, one.tools)
    if one.completion is None:
        text = renderer.prompt_text(one.prompt, asked)
        ids = renderer.in_place.prompt(text)
        return _record(text, ids, neutralised=renderer.neutralised(one.prompt))
    made = renderer.render(one.prompt, one.completion, asked)
    begun = bool(one.prompt) and one.prompt[-1]["role"] == "assistant"
    read = renderer.read(made.prompt_ids, made.completion_ids, begun=begun).message
    return _record(
        made.prompt_text,
        made.prompt_ids,
        completion_text=made.completion_text,
        completion_ids=made.completion_ids,
        trained=made.trained,
        end_id=made.end_id,
        message=shown(read),
        neutralised=made.neutralised,
    )


def _record(prompt_text: str, prompt_ids: list[int], **found: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {
        "completion_text": "",
        "completion_ids": [],
        "trained": [],
        "end_id": None,
        "message": None,
        "neutralised": 0,
    }
    return {"prompt_text": prompt_text, "prompt_ids": prompt_ids, **nothing, **found}


def shown(message: Message) -> dict[str, Any]:
    """A message as OpenAI's and TRL's readers know it; arguments of calls as objects."""
    calls = [
        {
            "type": "function",
            "function": {
                "name": call["function"]["name"],
                "arguments": json.loads(call["function"]["arguments"]),
            },
        }
        for call in message.get("tool_calls") or ()
    ]
    return {
        "role": message["role"],
        "content": message["content"],
        "reasoning": message.get("reasoning"),
        "tool_calls": calls,
    }


def _conversation(row: Mapping[str, Any], side: str | None) -> _Conversation:
    tools = _json_field(row, "tools", list)
    arguments = _json_field(row, "chat_template_kwargs", dict)
    name = next((name for name in _CONVERSATION if row.get(name) is not None), None)
    if row.get("prompt") is not None:
        prompt = _with_system(row, messages_of(row["prompt"]))
        completion = None if side is None else _said(row[side], prompt)
        return _Conversation(prompt, completion, tools, arguments or {})
    if name is not None and side is None:
        prompt, completion = _last_turn(_with_system(row, messages_of(row[name])))
        return _Conversation(prompt, completion, tools, arguments or {})
    if side is None:
        raise ConversationError(
            "no_conversation", "the row has neither messages nor a prompt with chosen and rejected"
        )
    before = _with_system(row, messages_of(row[name])) if name else _with_system(row, [])
    prompt, completion = _last_turn([*before, *messages_of(row[side], "assistant")])
    return _Conversation(prompt, completion, tools, arguments or {})


def _said(value: object, prompt: Messages) -> list[Message]:
    """The turns of a completion; where they repeat the prompt, what follows it."""
    if not isinstance(value, str):
        turns = normalise_messages(value)
    else:
        turns = messages_of(value, "assistant")
    if len(turns) > len(prompt) and turns[: len(prompt)] == list(prompt):
        turns = turns[len(prompt) :]
    return turns


def _with_system(row: Mapping[str, Any], turns: list[Message]) -> list[Message]:
    said = row.get("system")
    if isinstance(said, str) and said and not (turns and turns[0]["role"] == "system"):
        return [{"role": "system", "content": said}, *turns]
    return turns


def _last_turn(turns: list[Message]) -> tuple[list[Message], list[Message]]:
    """All before the last turn, and that turn, which an assistant has to have said."""
    if turns[-1]["role"] != "assistant":
        raise ConversationError("no_answer", "the conversation does not end with an assistant")
    if len(turns) == 1:
        raise TemplateRefusal("the conversation is an assistant's turn alone")
    return turns[:-1], turns[-1:]


def _json_field(row: Mapping[str, Any], name: str, kind: type) -> Any:
    value = row.get(name)
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ConversationError("bad_" + name, f"{name} is no JSON ({error})") from error
    if value in (None, "", [], {}):
        return None
    if not isinstance(value, kind):
        raise ConversationError("bad_" + name, f"{name} is no {kind.__name__}")
    return value
