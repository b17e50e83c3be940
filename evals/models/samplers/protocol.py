"""What a sampler is asked, what it answers, and what all samplers have in common."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import Field

from schemas.errors import DataError
from schemas.ids import canonical_messages
from schemas.labels import Message, Messages, ToolCall
from schemas.stage import Config

if TYPE_CHECKING:
    import torch

    from evals.models.chat.template import Asked
    from evals.models.checkpoints import Dtype
    from evals.models.rendering import ChatRenderer

FinishReason = Literal["stop", "length"]


class SamplingSettings(Config):
    """From which distribution to sample, and how much."""

    temperature: float = Field(1.0, ge=0, description="0 always takes the most probable token")
    top_p: float = Field(
        1.0, gt=0, le=1, description="sample among the most probable tokens of this total mass"
    )
    max_tokens: int = Field(
        256, ge=1, description="longest completion in tokens, the end token included"
    )
    seed: int = Field(0, ge=0, description="each completion's own seed is derived from it")


class EngineConfig(Config):
    """What every engine can be told."""

    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="precision of the weights; auto is float32 on CPU, bfloat16 on a GPU"
    )
    max_model_len: int | None = Field(
        None,
        ge=2,
        description="tokens of prompt and completion together; null takes the model's own limit",
    )

    def torch_dtype(self, device: "torch.device") -> "Dtype":
        """The precision for a device."""
        if self.dtype == "auto":
            return "float32" if device.type == "cpu" else "bfloat16"
        return self.dtype

    def context(self, model_limit: int | None) -> int | None:
        """Tokens that fit, given the model's own limit (None where it has none)."""
        limits = [n for n in (model_limit, self.max_model_len) if n is not None]
        return min(limits, default=None)


@dataclass(frozen=True)
class SampleRequest:
    """One completion to sample. `key` is the caller's name for it; `seed` decides the draw.

    `tools` and `chat_template_kwargs` are JSON text, as in the prompts table.
    """

    key: str
    prompt: Messages
    seed: int
    tools: str | None = None
    chat_template_kwargs: str | None = None


@dataclass(frozen=True)
class SampledCompletion:
    """A completion as the model wrote it; the empty text is a legitimate one.

    `token_ids` include the end token where the model stopped by itself. `sum_logps` is the sum
    over `token_ids` of log p in nats under the model's own distribution: temperature 1, no top_p;
    None where a server keeps both to itself, and then it may have said how many tokens it wrote.
    `token_logps` are the summands, and `tokens_of` is the fingerprint of the rendering that the ids
    belong to. An `unfinished` thought was cut before there was an answer. `neutralised` counts the
    places where the prompt imitated the template's structure.
    """

    text: str
    token_ids: list[int]
    sum_logps: float | None
    finish_reason: FinishReason
    counted_tokens: int | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None
    token_logps: Sequence[float] | None = None
    tokens_of: str | None = None
    unfinished: bool = False
    neutralised: int = 0

    @property
    def message(self) -> Message:
        """The assistant's turn."""
        turn: Message = {"role": "assistant", "content": self.text}
        if self.reasoning:
            turn["reasoning"] = self.reasoning
        if self.tool_calls:
            turn["tool_calls"] = self.tool_calls
        return turn

    @property
    def num_tokens(self) -> int | None:
        """Tokens written; None where nobody knows."""
        return self.counted_tokens if self.sum_logps is None else len(self.token_ids)


def completion_of(
    renderer: "ChatRenderer", ids: list[int], logps: Sequence[float], prompt: "PromptTokens"
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


@dataclass(frozen=True)
class Unsampled:
    """A request without a completion: `reason` is a code to count by, `detail` is for people."""

    reason: str
    detail: str = ""


Sample = SampledCompletion | Unsampled


class Sampler(Protocol):
    """A model that is ready to write.

    The answers come in the order of the requests. What one request gets depends on its prompt,
    its seed and the settings, not on the requests beside it (up to the rounding of batched
    matrix products, which can tip an exact tie).
    """

    @property
    def name(self) -> str:
        """The engine: `vllm` or `transformers`."""

    @property
    def fingerprint(self) -> str:
        """The model's fingerprint."""

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> list[Sample]:
        """One answer per request."""

    def close(self) -> None:
        """Give memory and devices back; the sampler is of no use afterwards."""


@dataclass(frozen=True)
class PromptTokens:
    """A request that fits: its place among the requests, and its prompt's token ids."""

    index: int
    ids: list[int]
    seed: int
    neutralised: int = 0


def asked_with(
    renderer: "ChatRenderer", tools: str | None, chat_template_kwargs: str | None
) -> "Asked | None":
    """What the template is asked with, of a row's JSON texts; None for nothing of its own."""
    if not tools and not chat_template_kwargs:
        return None
    arguments = json.loads(chat_template_kwargs) if chat_template_kwargs else None
    return renderer.asked(arguments, json.loads(tools) if tools else None)


def tokenize_requests(
    renderer: "ChatRenderer",
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


def _prompt_ids(renderer: "ChatRenderer", request: SampleRequest) -> list[int] | Unsampled:
    try:
        return renderer.prompt_ids(
            request.prompt, asked_with(renderer, request.tools, request.chat_template_kwargs)
        )
    except DataError as error:
        return Unsampled("chat_template_refused", str(error))
