"""Prompts as token ids, and what a model wrote behind them as a completion."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from evals.models.chat.templates.template import Asked
from evals.models.rendering import ChatRenderer
from evals.models.samplers.protocol import SampledCompletion, SampleRequest, Unsampled
from schemas.errors import DataError
from schemas.ids import canonical_messages


@dataclass(frozen=True)
class PromptTokens:
    """A request that fits: its place among the requests, and its prompt's token ids."""

    index: int
    ids: list[int]
    seed: int
    neutralised: int = 0


def asked_with(
    renderer: ChatRenderer, tools: str | None, chat_template_kwargs: str | None
) -> Asked | None:
    """What the template is asked with, of a row's JSON texts; None for nothing of its own."""
    if not tools and not chat_template_kwargs:
        return None
    arguments = json.loads(chat_template_kwargs) if chat_template_kwargs else None
    return renderer.asked(arguments, json.loads(tools) if tools else None)


def tokenize_requests(
    renderer: ChatRenderer,
    requests: Sequence[SampleRequest],
    context: int | None,
    max_tokens: int,
) -> tuple[list[PromptTokens], dict[int, Unsampled]]:
    """Render every prompt; those without room for `max_tokens` are unsampled, by request index."""
    rendered: dict[str, list[int] | Unsampled] = {}
    places: dict[str, int] = {}
    fitting: list[PromptTokens] = []
    refused: dict[int, Unsampled] = {}
    for index, request in enumerate(requests):
        text = repr(
            (canonical_messages(request.prompt), request.tools, request.chat_template_kwargs)
        )
        if text not in rendered:
            rendered[text] = _prompt_ids(renderer, request)
            places[text] = renderer.neutralised(request.prompt)
        ids = rendered[text]
        if isinstance(ids, Unsampled):
            refused[index] = ids
            continue
        if context is not None and len(ids) + max_tokens > context:
            refused[index] = Unsampled(
                "prompt_too_long",
                f"{len(ids)} prompt tokens and max_tokens {max_tokens} exceed {context}",
            )
        else:
            fitting.append(PromptTokens(index, ids, request.seed, places[text]))
    return fitting, refused


def _prompt_ids(renderer: ChatRenderer, request: SampleRequest) -> list[int] | Unsampled:
    try:
        return renderer.prompt_ids(
            request.prompt, asked_with(renderer, request.tools, request.chat_template_kwargs)
        )
    except DataError as error:
        return Unsampled("chat_template_refused", str(error))


def completion_of(
    renderer: ChatRenderer, ids: list[int], logps: Sequence[float], prompt: PromptTokens
) -> SampledCompletion:
    """What a model has written, the end token included where it stopped by itself.

    Thoughts, tool calls and headers of channels are kept apart from the text, where the template
    itself writes them; else they stay where the model wrote them, so that the same text gives the
    same tokens again.
    """
    prompt_ids = prompt.ids
    stopped = bool(ids) and ids[-1] in renderer.end_ids
    text = renderer.decode(ids[:-1] if stopped else ids, prompt_ids)
    read = renderer.read(prompt_ids, ids)
    if not renderer.keeps_apart(prompt_ids):
        return SampledCompletion(
            text,
            ids,
            math.fsum(logps),
            "stop" if stopped else "length",
            token_logps=list(logps),
            tokens_of=renderer.fingerprint,
            neutralised=prompt.neutralised,
        )
    said = read.message
    apart = bool(said.get("reasoning") or said.get("tool_calls")) or read.unfinished
    return SampledCompletion(
        text=said["content"] if apart or renderer.reader.around_content[0].strip() else text,
        token_ids=ids,
        sum_logps=math.fsum(logps),
        finish_reason="stop" if stopped else "length",
        reasoning=said.get("reasoning"),
        tool_calls=said.get("tool_calls"),
        token_logps=list(logps),
        tokens_of=renderer.fingerprint,
        unfinished=read.unfinished,
        neutralised=prompt.neutralised,
    )
