"""Log-probabilities of completions under a causal language model, in one padded batch.

Sequences are padded on the right and no attention mask is passed: a causal model cannot look
right, so padding changes nothing, and attention stays on its fast causal path. The LM head sees
only the positions that predict a completion token, so no `(batch, length, vocabulary)` tensor is
made.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from evals.models.chat.read_only import plain


class TokenSequence(Protocol):
    """A prompt of at least one token, and the completion that is scored."""

    @property
    def prompt_ids(self) -> Sequence[int]:
        """Tokens that are read only."""

    @property
    def completion_ids(self) -> Sequence[int]:
        """Tokens that are scored, at least one, the end-of-turn token among them.

        A token below zero is only read: see `evals.models.chat.read_only`.
        """


@dataclass(frozen=True)
class CompletionScores:
    """Scores of n completions.

    `logps`: float64 (n,), sum over completion tokens of log p(token | what precedes it), nats.
    `correct`: int64 (n,), completion tokens that are the model's first choice; None if not asked.
    `collision`: float64 (n,), sum of log sum_v p(v)^2 over the tokens; None if not asked.
    """

    logps: "Tensor"
    correct: "Tensor | None" = None
    collision: "Tensor | None" = None


def completion_logps(
    model: PreTrainedModel, sequences: Sequence[TokenSequence], pad_id: int = 0
) -> Tensor:
    """Summed log-probabilities of the completions: float64 (n,), differentiable.

    `pad_id` may be any id of the vocabulary; nothing is read from padded positions.
    """
    return completion_scores(model, sequences, pad_id).logps


def completion_scores(
    model: PreTrainedModel,
    sequences: Sequence[TokenSequence],
    pad_id: int = 0,
    *,
    count_correct: bool = False,
    collision: bool = False,
    weights: "Sequence[Sequence[float] | None] | None" = None,
) -> CompletionScores:
    """Summed log-probabilities, and where asked how many tokens greedy decoding would get right.

    `weights`: what the tokens of each sequence count in its sums; None: 1.

    Raises:
        ValueError: a prompt or a completion is empty.
    """
    lengths = [len(s.prompt_ids) + len(s.completion_ids) for s in sequences]
    groups = list(by_length_class(lengths, switching_length(model)))
    parts = []
    for group in groups:
        rows = [sequences[i] for i in group]
        weighed = None if weights is None else [weights[i] for i in group]
        parts.append(_scores(model, rows, pad_id, count_correct, collision, weighed))
    if len(parts) == 1:
        return parts[0]
    order = torch.tensor([i for group in groups for i in group]).argsort().to(model.device)

    def joined(columns: "list[Tensor | None]") -> "Tensor | None":
        found = [column for column in columns if column is not None]
        return torch.cat(found)[order] if found else None

    logps = torch.cat([part.logps for part in parts])[order]
    others = (joined([getattr(p, name) for p in parts]) for name in ("correct", "collision"))
    return CompletionScores(logps, *others)


def _scores(
    model: PreTrainedModel,
    sequences: Sequence[TokenSequence],
    pad_id: int,
    count_correct: bool,
    collision: bool,
    weights: "Sequence[Sequence[float] | None] | None",
) -> CompletionScores:
    batch = _Batch.of(sequences, pad_id, model.device)
    with _head_reads_only(model, batch.rows, batch.predictors):
        logits = model(input_ids=batch.input_ids, use_cache=False).logits[0]
    token_logps = -F.cross_entropy(logits.float(), batch.targets, reduction="none")
    counted = _weighing(sequences, weights, logits.device)

    def summed(values: Tensor) -> Tensor:
        by_row = values.double() if counted is None else values.double() * counted
        return batch.by_sequence(by_row).sum(dim=1)

    hits = (logits.detach().argmax(dim=-1) == batch.targets).long() if count_correct else None
    squares = None
    if collision:
        seen = logits.detach().float()
        squares = summed((2 * seen).logsumexp(dim=-1) - 2 * seen.logsumexp(dim=-1))
    correct = None if hits is None else batch.by_sequence(hits).sum(dim=1)
    return CompletionScores(summed(token_logps), correct, squares)


def _weighing(
    sequences: Sequence[TokenSequence],
    weights: "Sequence[Sequence[float] | None] | None",
    device: torch.device,
) -> "Tensor | None":
    """What each completion token counts, flattened; None where all count 1."""
    if weights is None:
        return None
    rows = [
        row if row is not None else [1.0] * len(s.completion_ids)
        for s, row in zip(sequences, weights, strict=True)
    ]
    counted = [
        weight
        for s, row in zip(sequences, rows, strict=True)
        for target, weight in zip(s.completion_ids, row, strict=True)
        if target >= 0
    ]
    return torch.tensor(counted, dtype=torch.float64, device=device)


def next_token_logits(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], pad_id: int = 0
) -> Tensor:
    """Logits of the token that follows each prompt: (n, vocabulary), float32.

    Raises:
        ValueError: a prompt is empty.
    """
    if not all(len(prompt) for prompt in prompts):
        raise ValueError("a prompt needs at least one token")
    groups = list(by_length_class([len(prompt) for prompt in prompts], switching_length(model)))
    parts = [_next_logits(model, [prompts[i] for i in group], pad_id) for group in groups]
    order = torch.tensor([i for group in groups for i in group]).argsort().to(model.device)
    return parts[0] if len(parts) == 1 else torch.cat(parts)[order]


def _next_logits(model: PreTrainedModel, prompts: Sequence[Sequence[int]], pad_id: int) -> Tensor:
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
            ids = [*s.prompt_ids, *plain(s.completion_ids).tolist()]
            input_ids.append(ids + [pad_id] * (length - len(ids)))
            for place, target in enumerate(s.completion_ids):
                if target >= 0:  # else it is only read
                    rows.append(row)
                    predictors.append(len(s.prompt_ids) - 1 + place)
                    places.append(place)
                    targets.append(target)
        index = torch.tensor([rows, predictors, places, targets], device=device)
        return cls(
            torch.tensor(input_ids, device=device), index[0], index[1], index[2], index[3], width
        )

    def by_sequence(self, values: Tensor) -> Tensor:
        """(tokens,) to (n, longest completion), zeros beyond each completion's end."""
        padded = values.new_zeros((len(self.input_ids), self.width))
        return padded.index_put((self.rows, self.places), values)


@contextmanager
def _head_reads_only(model: PreTrainedModel, rows: Tensor, positions: "Tensor") -> Iterator[None]:
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


# LongRoPE (Ding et al. 2024, arXiv:2402.13753) has two sets of frequencies, and transformers picks
# one for a whole pass by its longest row, so a short row would be read as a long one beside it.
# (Dynamic NTK changes beyond the model's own limit only, where nothing of ours is let.)
_SWITCHING = "longrope"


def switching_length(model: Any) -> int | None:
    """Tokens up to which a row is short for this model; None where length makes no difference."""
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]
    own = getattr(config, "original_max_position_embeddings", None)
    lengths = [
        kind.get("original_max_position_embeddings") or own
        for kind in kinds
        if kind.get("rope_type", kind.get("type")) == _SWITCHING
    ]
    return min((int(n) for n in lengths if n), default=None)


def by_length_class(lengths: Sequence[int], switch: int | None) -> Iterator[list[int]]:
    """Indices of the rows that may share a pass, in one or two groups; none is empty."""
    if switch is None:
        yield list(range(len(lengths)))
        return
    for is_long in (False, True):
        group = [i for i, length in enumerate(lengths) if (length > switch) == is_long]
        if group:
            yield group


MOST_PADDING = 1.25
"""Longest over shortest row of a batch: more would be spent on padding than a batch saves."""


def alike_in_length(rows: Sequence[Sequence[int]], size: int) -> Iterator[Sequence[Sequence[int]]]:
    """Rows that share a padded pass: neighbours, at most `size`, and of about one length.

    Rows that come sorted by length make the fewest batches.
    """
    start = 0
    for stop in range(1, len(rows) + 1):
        batch = rows[start : stop + 1]
        lengths = [len(row) for row in batch]
        full = len(batch) > size or max(lengths) > MOST_PADDING * min(lengths)
        if stop == len(rows) or full:
            yield rows[start:stop]
            start = stop
