"""Scoring by label tokens with transformers."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evals.judges.scoring.config import LabelScoring
from evals.judges.scoring.label_judge import LabelJudge, most_prompt_tokens
from evals.memory.allocator import give_back
from evals.memory.between_layers import trim_between_layers
from evals.models.checkpoints import ModelSource, load_causal_lm, positions_of, torch_device
from evals.models.logps import alike_in_length, next_token_logits
from evals.pulse import beat
from schemas.labels import Preference
from schemas.stage import Runtime


class LabelScorer(LabelJudge):
    """Reads comparisons with transformers, in padded batches; none depends on its batch."""

    def __init__(
        self, name: str, config: LabelScoring, source: ModelSource, runtime: Runtime
    ) -> None:
        """Loads tokenizer and weights. Raises what loading them raises."""
        self._model: PreTrainedModel = load_causal_lm(source, torch_device(runtime), config.dtype)
        trim_between_layers(self._model)
        super().__init__(name, config, source, positions_of(self._model.config))
        self._batch_size = runtime.judge_batch_size
        self._pad_id = int(self.tokenizer.pad_token_id or 0)

    def _masses(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        ids = [self.labels.ids[label] for label in Preference]
        found: list[list[float]] = []
        with torch.inference_mode():
            for batch in alike_in_length(prompts, self._batch_size):
                logits = next_token_logits(self._model, batch, self._pad_id)
                found += label_masses(logits, ids).tolist()
                beat(len(batch))
        return found

    def close(self) -> None:
        """Give back what its passes have left."""
        give_back()

    def _continued(self, prompt: Sequence[int], tokens: int) -> list[int]:
        written = list(prompt)
        with torch.inference_mode():
            for _ in range(tokens):
                logits = next_token_logits(self._model, [written], self._pad_id)
                written.append(int(logits[0].argmax()))
        return written[len(prompt) :]


def label_masses(logits: Tensor, label_ids: Sequence[int]) -> Tensor:
    """Probabilities of the label tokens: (n, vocabulary) logits to (n, labels), float64.

    Log-softmax over the whole vocabulary, so that they sum to less than 1 where the model would
    rather say something else.
    """
    return torch.log_softmax(logits.double(), dim=-1)[:, list(label_ids)].exp()


def prompt_limit(model: PreTrainedModel, config: LabelScoring) -> int:
    """Most tokens that a comparison may have in a model."""
    return most_prompt_tokens(positions_of(model.config), config)
