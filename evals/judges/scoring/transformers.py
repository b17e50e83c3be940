"""Scoring by label tokens: what a causal language model's next token says of a comparison."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from evals.judges.interface import Judge
from evals.judges.scoring.label_masses import verdict_of_masses
from evals.judges.scoring.label_tokens import LabelTokens
from evals.models.checkpoints import (
    Dtype,
    ModelSource,
    load_causal_lm,
    load_tokenizer,
    model_fingerprint,
    torch_device,
)
from schemas.ids import content_id
from schemas.labels import Comparison, Message, Preference, Unscored, Verdict
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
    engine: Literal["transformers", "vllm"] = Field(
        "transformers", description="what reads the model; vllm where `make vllm` installed it"
    )

    def chat(self, comparison: Comparison) -> list[Message]:
        """The conversation whose next token is the label."""
        raise NotImplementedError

    @property
    def layout(self) -> str:
        """Names what `chat` shows, for the fingerprint."""
        raise NotImplementedError


def open_label_judge(
    name: str, config: LabelScoring, source: ModelSource, runtime: Runtime
) -> Judge:
    """Load the model into the engine that the settings name. Raises what loading it raises."""
    if config.engine == "vllm":
        from evals.judges.scoring.vllm import VllmLabelScorer

        return VllmLabelScorer(name, config, source, runtime)
    return LabelScorer(name, config, source, runtime)


class LabelJudge(ABC):
    """What label scoring is, whatever reads the model."""

    def __init__(
        self, name: str, config: LabelScoring, source: ModelSource, limit: int | None
    ) -> None:
        """`limit` is the most positions that the model has. Raises what opening a tokenizer does.

        Raises:
            ConfigError: the tokenizer cannot tell the labels apart.
        """
        self.name = name
        self.config = config
        self.source = source
        self.tokenizer = load_tokenizer(source)
        self.labels = LabelTokens(self.tokenizer, config.chat)
        self.max_tokens = most_prompt_tokens(limit, config)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of layout, settings and weights; where the weights lie is no part of it."""
        settings = self.config.model_dump_json(exclude={"model"})
        return content_id(
            "judge", self.name, self.config.layout, settings, model_fingerprint(self.source)
        )

    def judge(self, comparisons: Sequence[Comparison]) -> list[Verdict]:
        """One verdict per comparison, in order."""
        prompts = [self.labels.prompt_ids(c) for c in comparisons]
        verdicts: list[Verdict] = [too_long(len(p), self.max_tokens) for p in prompts]
        fits = [i for i, prompt in enumerate(prompts) if len(prompt) <= self.max_tokens]
        # Neighbours in length share a batch, so that little of it is padding.
        fits.sort(key=lambda i: len(prompts[i]))
        masses = self._masses([prompts[i] for i in fits]) if fits else []
        for i, masses_of in zip(fits, masses, strict=True):
            verdicts[i] = self._verdict(masses_of, len(prompts[i]))
        return verdicts

    @abstractmethod
    def _masses(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Probabilities of A, B and Tie as the next token of each prompt."""

    def _verdict(self, masses: Sequence[float], prompt_tokens: int) -> Verdict:
        by_label = dict(zip(Preference, masses, strict=True))
        verdict = verdict_of_masses(by_label, self.config.min_label_mass)
        return replace(verdict, prompt_tokens=prompt_tokens, completion_tokens=1)


class LabelScorer(LabelJudge):
    """Reads comparisons with transformers, in padded batches; none depends on its batch."""

    def __init__(
        self, name: str, config: LabelScoring, source: ModelSource, runtime: Runtime
    ) -> None:
        """Loads tokenizer and weights. Raises what loading them raises."""
        self._model: PreTrainedModel = load_causal_lm(source, torch_device(runtime), config.dtype)
        super().__init__(name, config, source, _positions(self._model))
        self._batch_size = runtime.judge_batch_size
        self._pad_id = int(self.tokenizer.pad_token_id or 0)

    def _masses(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        import torch

        from evals.models.logps import next_token_logits

        ids = [self.labels.ids[label] for label in Preference]
        found: list[list[float]] = []
        with torch.inference_mode():
            for batch in _batches(prompts, self._batch_size):
                logits = next_token_logits(self._model, batch, self._pad_id)
                found += label_masses(logits, ids).tolist()
        return found


def label_masses(logits: "Tensor", label_ids: Sequence[int]) -> "Tensor":
    """Probabilities of the label tokens: (n, vocabulary) logits to (n, labels), float64.

    Log-softmax over the whole vocabulary, so that they sum to less than 1 where the model would
    rather say something else.
    """
    import torch

    return torch.log_softmax(logits.double(), dim=-1)[:, list(label_ids)].exp()


def prompt_limit(model: "PreTrainedModel", config: LabelScoring) -> int:
    """Most tokens that a comparison may have in a model."""
    return most_prompt_tokens(_positions(model), config)


def most_prompt_tokens(positions: int | None, config: LabelScoring) -> int:
    """Most tokens that a comparison may have: the positions less one for the label."""
    limits = [positions - 1 if positions else None, config.max_prompt_tokens]
    return min((limit for limit in limits if limit), default=2**31 - 1)


def _positions(model: "PreTrainedModel") -> int | None:
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def too_long(tokens: int, limit: int) -> Unscored:
    """The outcome of a comparison that does not fit."""
    return Unscored("prompt_too_long", f"{tokens} tokens; the judge reads at most {limit}")


def _batches(prompts: Sequence[Sequence[int]], size: int) -> Iterator[Sequence[Sequence[int]]]:
    return (prompts[start : start + size] for start in range(0, len(prompts), size))
