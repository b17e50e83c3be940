"""Log-probabilities of completions under a causal language model, in one padded batch.

Sequences are padded on the right and no attention mask is passed: a causal model cannot look
right, so padding changes nothing, and attention stays on its fast causal path. The LM head sees
only the positions that predict a completion token, so no `(batch, length, vocabulary)` tensor is
made.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel


class TokenSequence(Protocol):
    """A prompt of at least one token, and the completion that is scored."""

    @property
    def prompt_ids(self) -> Sequence[int]:
        """Tokens that are read only."""

    @property
    def completion_ids(self) -> Sequence[int]:
        """Tokens that are scored, at least one, the end-of-turn token among them."""


@dataclass(frozen=True)
class CompletionScores:
    """Scores of n completions.

    `logps`: float64 (n,), sum over completion tokens of log p(token | what precedes it), nats.
    `correct`: int64 (n,), completion tokens that are the model's first choice; None if not asked.
    """

    logps: "Tensor"
    correct: "Tensor | None" = None


def completion_logps(
    model: "PreTrainedModel", sequences: Sequence[TokenSequence], pad_id: int = 0
) -> "Tensor":
    """Summed log-probabilities of the completions: float64 (n,), differentiable.

    `pad_id` may be any id of the vocabulary; nothing is read from padded positions.
    """
    return completion_scores(model, sequences, pad_id).logps


def completion_scores(
    model: "PreTrainedModel",
    sequences: Sequence[TokenSequence],
    pad_id: int = 0,
    *,
    count_correct: bool = False,
) -> CompletionScores:
    """Summed log-probabilities, and where asked how many tokens greedy decoding would get right.

    Raises:
        ValueError: a prompt or a completion is empty.
    """
    import torch.nn.functional as F

    batch = _Batch.of(sequences, pad_id, model.device)
    with _head_reads_only(model, batch.rows, batch.predictors):
        logits = model(input_ids=batch.input_ids, use_cache=False).logits[0]
    token_logps = -F.cross_entropy(logits.float(), batch.targets, reduction="none")
    logps = batch.by_sequence(token_logps.double()).sum(dim=1)
    if not count_correct:
        return CompletionScores(logps)
    hits = (logits.detach().argmax(dim=-1) == batch.targets).long()
    return CompletionScores(logps, batch.by_sequence(hits).sum(dim=1))


def next_token_logits(
    model: "PreTrainedModel", prompts: Sequence[Sequence[int]], pad_id: int = 0
) -> "Tensor":
    """Logits of the token that follows each prompt: (n, vocabulary), float32.

    Raises:
        ValueError: a prompt is empty.
    """
    import torch

    if not all(len(prompt) for prompt in prompts):
        raise ValueError("a prompt needs at least one token")
    length = max(len(prompt) for prompt in prompts)
    padded = [[*prompt, *[pad_id] * (length - len(prompt))] for prompt in prompts]
    input_ids = torch.tensor(padded, device=model.device)
    rows = torch.arange(len(prompts), device=model.device)
    last = torch.tensor([len(prompt) - 1 for prompt in prompts], device=model.device)
    with _head_reads_only(model, rows, last):
        logits: Tensor = model(input_ids=input_ids, use_cache=False).logits[0]
    return logits.float()


@dataclass(frozen=True)
class _Batch:
    """Padded tokens (n, length), and of all completion tokens, flattened: row, place, target.

    `predictors` are the positions whose hidden state predicts the target: one to its left.
    """

    input_ids: "Tensor"
    rows: "Tensor"
    predictors: "Tensor"
    places: "Tensor"
    targets: "Tensor"
    width: int

    @classmethod
    def of(
        cls, sequences: Sequence[TokenSequence], pad_id: int, device: "torch.device"
    ) -> "_Batch":
        import torch

        if not all(len(s.prompt_ids) and len(s.completion_ids) for s in sequences):
            raise ValueError("a prompt and a completion need at least one token each")
        length = max(len(s.prompt_ids) + len(s.completion_ids) for s in sequences)
        width = max(len(s.completion_ids) for s in sequences)
        input_ids: list[list[int]] = []
        rows: list[int] = []
        predictors: list[int] = []
        places: list[int] = []
        targets: list[int] = []
        for row, s in enumerate(sequences):
            ids = [*s.prompt_ids, *s.completion_ids]
            input_ids.append(ids + [pad_id] * (length - len(ids)))
            rows += [row] * len(s.completion_ids)
            predictors += range(len(s.prompt_ids) - 1, len(ids) - 1)
            places += range(len(s.completion_ids))
            targets += s.completion_ids
        index = torch.tensor([rows, predictors, places, targets], device=device)
        return cls(
            torch.tensor(input_ids, device=device), index[0], index[1], index[2], index[3], width
        )

    def by_sequence(self, values: "Tensor") -> "Tensor":
        """(tokens,) to (n, longest completion), zeros beyond each completion's end."""
        padded = values.new_zeros((len(self.input_ids), self.width))
        return padded.index_put((self.rows, self.places), values)


@contextmanager
def _head_reads_only(
    model: "PreTrainedModel", rows: "Tensor", positions: "Tensor"
) -> Iterator[None]:
    """Let the LM head see hidden states at (row, position) only, as one sequence (1, k, hidden).

    What a model does to its logits after the head (soft-capping, scaling) stays in force.
    """

    def select(_module: Any, inputs: "tuple[Tensor, ...]") -> "tuple[Tensor, ...]":
        return (inputs[0][rows, positions].unsqueeze(0), *inputs[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()
