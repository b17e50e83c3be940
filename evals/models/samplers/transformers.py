"""Sampling with transformers, anywhere torch runs: one batched decoding loop with a KV cache."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from evals.models.samplers.draws import draw, uniforms
from evals.models.samplers.protocol import (
    EngineConfig,
    PromptTokens,
    Sample,
    SampleRequest,
    SamplingSettings,
    completion_of,
    tokenize_requests,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from evals.models.checkpoints import ModelSource
    from evals.models.rendering import ChatRenderer
    from schemas.stage import Runtime


class TransformersSampler(EngineConfig):
    """Transformers' models, on CPU or GPU; needs nothing else installed."""

    kind: Literal["transformers"] = "transformers"

    def open(self, model: "ModelSource", runtime: "Runtime") -> "TransformersEngine":
        """Load the model. Raises what `load_causal_lm` raises."""
        from evals.models.checkpoints import (
            load_causal_lm,
            load_tokenizer,
            model_fingerprint,
            torch_device,
        )
        from evals.models.rendering import ChatRenderer

        renderer = ChatRenderer(load_tokenizer(model))
        device = torch_device(runtime)
        loaded = load_causal_lm(model, device, self.torch_dtype(device))
        limit = getattr(loaded.config.get_text_config(), "max_position_embeddings", None)
        return TransformersEngine(
            loaded,
            renderer,
            fingerprint=model_fingerprint(model),
            context=self.context(limit),
            batch_size=runtime.sampler_batch_size,
        )


class TransformersEngine:
    """A loaded model and its renderer; usable with any causal LM that is already in memory."""

    name = "transformers"

    def __init__(
        self,
        model: "PreTrainedModel",
        renderer: "ChatRenderer",
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
        import torch

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
                decoded = _Decoding(self._model, batch, settings, self._renderer.end_ids).run()
                for prompt, (ids, sum_logps) in zip(batch, decoded, strict=True):
                    answers[prompt.index] = completion_of(self._renderer, ids, sum_logps)
        return [answers[index] for index in range(len(requests))]

    def close(self) -> None:
        """Let go of the model."""
        import gc

        import torch

        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@dataclass
class _Decoding:
    """One batch of prompts, decoded to the end."""

    model: "PreTrainedModel"
    batch: Sequence[PromptTokens]
    settings: SamplingSettings
    end_ids: Sequence[int]

    def run(self) -> list[tuple[list[int], float]]:
        """Token ids and summed logps of each row.

        Rows that have ended stay in the batch, unread, until half of it has ended; then they are
        dropped, so that the cache is copied only a few times.
        """
        import torch

        device = self.model.device
        rows, limit = len(self.batch), self.settings.max_tokens
        noise = torch.from_numpy(uniforms([p.seed for p in self.batch], limit)).to(device)
        tokens = torch.zeros((rows, limit), dtype=torch.long, device=device)
        logps = torch.zeros((rows, limit), dtype=torch.float64, device=device)
        ends = torch.tensor(list(self.end_ids), device=device)
        lengths = torch.full((rows,), limit, dtype=torch.long, device=device)
        alive = torch.arange(rows, device=device)  # rows still in the batch
        running = torch.ones(rows, dtype=torch.bool, device=device)  # of those, not ended
        logits, cache, mask = self._prefill(device)
        for step in range(limit):
            chosen, chosen_logps = draw(logits, noise[alive, step], self.settings)
            tokens[alive, step], logps[alive, step] = chosen, chosen_logps
            ended = running & torch.isin(chosen, ends)
            lengths[alive[ended]] = step + 1
            running &= ~ended
            left = int(running.sum())
            if left == 0 or step + 1 == limit:
                break
            if 2 * left <= len(alive):
                keep = running.nonzero().squeeze(1)
                alive, running, chosen, mask = alive[keep], running[keep], chosen[keep], mask[keep]
                cache.batch_select_indices(keep)
            mask = torch.cat([mask, mask.new_ones((len(mask), 1))], dim=1)
            logits = self._forward(chosen[:, None], mask, cache)
        tokens, logps = tokens.cpu(), logps.cpu()
        return [
            (tokens[row, :length].tolist(), float(logps[row, :length].sum()))
            for row, length in enumerate(lengths.tolist())
        ]

    def _prefill(self, device: "torch.device") -> tuple["torch.Tensor", Any, "torch.Tensor"]:
        """Read each distinct prompt once, and give every row its copy of logits and cache."""
        import torch
        from transformers import DynamicCache

        distinct = {tuple(p.ids): None for p in self.batch}
        place = {ids: index for index, ids in enumerate(distinct)}
        width = max(map(len, distinct))
        padded = [[0] * (width - len(ids)) + list(ids) for ids in distinct]
        present = [[0] * (width - len(ids)) + [1] * len(ids) for ids in distinct]
        input_ids = torch.tensor(padded, device=device)
        mask = torch.tensor(present, device=device)
        cache = DynamicCache(config=self.model.config.get_text_config())
        logits = self._forward(input_ids, mask, cache)
        if len(distinct) < len(self.batch):
            rows = torch.tensor([place[tuple(p.ids)] for p in self.batch], device=device)
            cache.batch_select_indices(rows)
            logits, mask = logits[rows], mask[rows]
        return logits, cache, mask

    def _forward(
        self, input_ids: "torch.Tensor", mask: "torch.Tensor", cache: Any
    ) -> "torch.Tensor":
        """Logits `[rows, vocabulary]` after the last of `input_ids`, padded on the left."""
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -input_ids.shape[1] :]
        output = self.model(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **({"logits_to_keep": 1} if _keeps_last_logits(self.model) else {}),
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits


def _keeps_last_logits(model: "PreTrainedModel") -> bool:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(base.forward).parameters
