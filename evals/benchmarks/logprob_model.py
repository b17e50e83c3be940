"""A checkpoint that scores completions instead of writing them, in a sampler's clothes.

What it "writes" to a conversation is the log-probability of its last turn: so the same provider,
batches and logs serve inspect-ai tasks that measure what a model finds likely.
"""

from collections.abc import Sequence

import torch

from evals.memory.allocator import give_back
from evals.models.checkpoints import (
    ModelSource,
    load_causal_lm,
    load_tokenizer,
    model_fingerprint,
    positions_of,
    torch_device,
)
from evals.models.logps import completion_logps
from evals.models.rendering import ChatRenderer, RenderedCompletion
from evals.models.samplers import (
    Sample,
    SampledCompletion,
    SampleRequest,
    SamplingSettings,
    Unsampled,
)
from schemas.stage import Runtime

TOKENS_PER_BATCH = 16_384


class CompletionScorer:
    """Log p(last turn | turns before it), summed over its tokens and its end, in nats.

    The text of an answer is the number, as `float` reads it; its token ids are the scored ones.
    """

    name = "log_probabilities"

    def __init__(self, source: ModelSource, runtime: Runtime) -> None:
        """Loads tokenizer and weights. Raises what loading them raises."""
        self.fingerprint = model_fingerprint(source)
        self.renderer = ChatRenderer(load_tokenizer(source))
        self._model = load_causal_lm(source, torch_device(runtime))
        self._limit = positions_of(self._model.config) or 2**31
        self._pad_id = int(self.renderer.tokenizer.pad_token_id or 0)

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> list[Sample]:
        """One number per conversation; one that is too long is unsampled."""
        rendered = [self.renderer.render(r.prompt[:-1], r.prompt[-1:]) for r in requests]
        answers: list[Sample] = [self._too_long(one) for one in rendered]
        fits = [i for i, one in enumerate(rendered) if _length(one) <= self._limit]
        fits.sort(key=lambda i: _length(rendered[i]))
        for batch in _batches(fits, rendered):
            for i, logp in zip(batch, self._logps([rendered[i] for i in batch]), strict=True):
                answers[i] = SampledCompletion(repr(logp), rendered[i].completion_ids, logp, "stop")
        return answers

    def _logps(self, batch: Sequence[RenderedCompletion]) -> list[float]:
        with torch.inference_mode():
            found: list[float] = completion_logps(self._model, batch, self._pad_id).tolist()
        return found

    def _too_long(self, one: RenderedCompletion) -> Unsampled:
        return Unsampled("too_long", f"{_length(one)} tokens; the model reads {self._limit}")

    def close(self) -> None:
        """Give the weights back."""
        del self._model
        give_back()


def _length(one: RenderedCompletion) -> int:
    return len(one.prompt_ids) + len(one.completion_ids)


def _batches(order: Sequence[int], rendered: Sequence[RenderedCompletion]) -> list[list[int]]:
    """Neighbours in length, as many as fit the token budget when padded."""
    batches: list[list[int]] = []
    for i in order:
        longest = _length(rendered[i])
        if not batches or longest * (len(batches[-1]) + 1) > TOKENS_PER_BATCH:
            batches.append([])
        batches[-1].append(i)
    return batches
