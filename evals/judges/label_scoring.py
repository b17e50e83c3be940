"""Scoring by label tokens: what a causal language model's next token says of a comparison."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import Field

from evals.judges.label_tokens import LabelTokens
from evals.models.checkpoints import (
    Dtype,
    ModelSource,
    load_causal_lm,
    load_tokenizer,
    model_fingerprint,
    torch_device,
)
from schemas.ids import content_id
from schemas.labels import (
    Comparison,
    LabelProbabilities,
    Message,
    Preference,
    Unscored,
    Verdict,
)
from schemas.stage import Config, Runtime

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class LabelScoring(Config):
    """What every judge that is scored by label tokens can be told; a kind adds `chat`."""

    min_label_mass: float = Field(
        0.5,
        ge=0,
        le=1,
        description="least probability that A, B and Tie must have together; below it the model "
        "would rather say something else, and the comparison is unscored",
    )
    max_prompt_tokens: int | None = Field(
        None, ge=1, description="longer comparisons are unscored; null takes the model's own limit"
    )
    dtype: Dtype = Field("float32", description="type of weights and arithmetic")

    def chat(self, comparison: Comparison) -> list[Message]:
        """The conversation whose next token is the label."""
        raise NotImplementedError

    @property
    def layout(self) -> str:
        """Names what `chat` shows, for the fingerprint."""
        raise NotImplementedError


class LabelScorer:
    """Reads comparisons in padded batches; a verdict does not depend on its batch."""

    def __init__(
        self, name: str, config: LabelScoring, source: ModelSource, runtime: Runtime
    ) -> None:
        """Loads tokenizer and weights. Raises what loading them raises."""
        self.name = name
        self._config = config
        self._batch_size = runtime.judge_batch_size
        self._source = source
        tokenizer = load_tokenizer(source)
        self.labels = LabelTokens(tokenizer, config.chat)
        self._pad_id = int(tokenizer.pad_token_id or 0)
        self._model: PreTrainedModel = load_causal_lm(source, torch_device(runtime), config.dtype)
        self.max_tokens = prompt_limit(self._model, config)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of layout, settings and weights; where the weights lie is no part of it."""
        settings = self._config.model_dump_json(exclude={"model"})
        return content_id(
            "judge", self.name, self._config.layout, settings, model_fingerprint(self._source)
        )

    def judge(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        """One verdict per comparison, in order."""
        prompts = [self.labels.prompt_ids(c) for c in comparisons]
        verdicts: list[Verdict] = [too_long(len(p), self.max_tokens) for p in prompts]
        fits = [i for i, prompt in enumerate(prompts) if len(prompt) <= self.max_tokens]
        # Neighbours in length share a batch, so that little of it is padding.
        fits.sort(key=lambda i: len(prompts[i]))
        for indices in _batches(fits, self._batch_size):
            batch = [prompts[i] for i in indices]
            for i, verdict in zip(indices, self._score(batch), strict=True):
                verdicts[i] = verdict
        return verdicts

    def _score(self, prompts: Sequence[Sequence[int]]) -> list[Verdict]:
        import torch

        from evals.models.logps import next_token_logits

        with torch.inference_mode():
            logits = next_token_logits(self._model, prompts, self._pad_id)
            masses = label_masses(logits, [self.labels.ids[label] for label in Preference])
        return [
            self._verdict(masses_of, len(prompt))
            for masses_of, prompt in zip(masses.tolist(), prompts, strict=True)
        ]

    def _verdict(self, masses: Sequence[float], prompt_tokens: int) -> Verdict:
        total = sum(masses)
        if not total > 0:  # also where a logit is not a number
            return Unscored("no_label_mass", "the label tokens have no probability at all")
        if total < self._config.min_label_mass:
            return Unscored("low_label_mass", f"A, B and Tie have probability {total:.3g} together")
        p_a, p_b, p_tie = (mass / total for mass in masses)
        likeliest = max(zip(masses, Preference, strict=True))[1]
        return LabelProbabilities(
            p_a=p_a,
            p_b=p_b,
            p_tie=p_tie,
            label_mass=min(1.0, total),
            raw=likeliest.value,
            prompt_tokens=prompt_tokens,
            completion_tokens=1,
        )


def label_masses(logits: "Tensor", label_ids: Sequence[int]) -> "Tensor":
    """Probabilities of the label tokens: (n, vocabulary) logits to (n, labels), float64.

    Log-softmax over the whole vocabulary, so that they sum to less than 1 where the model would
    rather say something else.
    """
    import torch

    return torch.log_softmax(logits.double(), dim=-1)[:, list(label_ids)].exp()


def prompt_limit(model: "PreTrainedModel", config: LabelScoring) -> int:
    """Most tokens that a comparison may have: the model's positions less one for the label."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    limits = [positions - 1 if positions else None, config.max_prompt_tokens]
    return min((limit for limit in limits if limit), default=2**31 - 1)


def too_long(tokens: int, limit: int) -> Unscored:
    """The outcome of a comparison that does not fit."""
    return Unscored("prompt_too_long", f"{tokens} tokens; the judge reads at most {limit}")


def _batches(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (items[start : start + size] for start in range(0, len(items), size))
