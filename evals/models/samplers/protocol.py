"""What a sampler is asked, what it answers, and what all samplers have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from evals.models.samplers.config import SamplingSettings
from schemas.labels import Message, Messages, ToolCall

FinishReason = Literal["stop", "length"]


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
