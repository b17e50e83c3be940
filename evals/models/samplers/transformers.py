"""Sampling with transformers, anywhere torch runs: one batched decoding loop with a KV cache."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from evals.memory.allocator import give_back
from evals.models.chat.checks import sound_renderer
from evals.models.checkpoints import (
    ModelSource,
    load_causal_lm,
    load_tokenizer,
    model_fingerprint,
    positions_of,
    torch_device,
)
from evals.models.rendering import ChatRenderer
from evals.models.samplers.config import SamplingSettings, TransformersSampler
from evals.models.samplers.decoding import decode
from evals.models.samplers.prompts import completion_of, tokenize_requests
from evals.models.samplers.protocol import Sample, SampleRequest
from schemas.stage import Runtime


def open_engine(
    config: TransformersSampler, model: ModelSource, runtime: Runtime
) -> "TransformersEngine":
    """See `TransformersSampler.open`."""
    renderer = sound_renderer(load_tokenizer(model))
    device = torch_device(runtime)
    loaded = load_causal_lm(model, device, config.torch_dtype(device))
    return TransformersEngine(
        loaded,
        renderer,
        fingerprint=model_fingerprint(model),
        context=config.context(positions_of(loaded.config)),
        batch_size=runtime.sampler_batch_size,
    )


class TransformersEngine:
    """A loaded model and its renderer; usable with any causal LM that is already in memory."""

    name = "transformers"

    def __init__(
        self,
        model: PreTrainedModel,
        renderer: ChatRenderer,
        *,
        fingerprint: str,
        context: int | None,
        batch_size: int,
    ) -> None:
        self.fingerprint = fingerprint
        self._model: PreTrainedModel | None = model
        self._renderer = renderer
        self._context = context
        self._batch_size = batch_size

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> list[Sample]:
        """One answer per request, in their order; prompts of like length share a batch."""
        if self._model is None:
            raise RuntimeError("the sampler is closed")
        fitting, refused = tokenize_requests(
            self._renderer, requests, self._context, settings.max_tokens
        )
        answers: dict[int, Sample] = dict(refused)
        ordered = sorted(fitting, key=lambda p: (len(p.ids), p.ids, p.index))
        with torch.inference_mode():
            for start in range(0, len(ordered), self._batch_size):
                batch = ordered[start : start + self._batch_size]
                decoded = decode(self._model, batch, settings, self._renderer.end_ids)
                for prompt, (ids, logps) in zip(batch, decoded, strict=True):
                    answers[prompt.index] = completion_of(self._renderer, ids, logps, prompt)
        return [answers[index] for index in range(len(requests))]

    def close(self) -> None:
        """Let go of the model."""
        self._model = None
        give_back()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
