"""How a model's tokens are drawn one after another: three ways, the fastest that it is right with.

`batched`: rows padded on the left, one cache, rows dropped as they end. `single`: a row at a time
with whatever state the model itself hands back. `plain`: a row at a time, read whole for every
token. Which one is right for a model is found by a probe (`way_of`): models whose state is not a
cache of keys and values, or whose layers see padding, are right with the later ones only.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from evals.models.logps import completion_logps, switching_length
from evals.models.rendering import RenderedCompletion
from evals.models.samplers.config import SamplingSettings
from evals.models.samplers.draws import draw, uniforms
from evals.models.samplers.prompts import PromptTokens
from evals.pulse import beat, scaled
from schemas.errors import BackendError

Way = Literal["batched", "single", "plain"]
Decoded = list[tuple[list[int], list[float]]]

_WAYS: tuple[Way, ...] = ("batched", "single", "plain")
_KNOWN = "_prefline_decoding"

# Nats of a row's few tokens by which a way may differ from reading the row whole.
_TOLERANCE = 2e-3
_LOW_TOLERANCE = 0.5


def way_of(model: PreTrainedModel) -> Way:
    """The fastest way whose log-probabilities are those of the same tokens read as a whole.

    Probed once per model: two prompts, one of them twice, and rows that end before the others.

    Raises:
        BackendError: none is right, so the model cannot be sampled here.
    """
    known: Way | None = model.__dict__.get(_KNOWN)
    if known is None:
        known = next((way for way in _WAYS if _is_right(model, way)), None)
        if known is None:
            raise BackendError(
                f"{type(model).__name__}: transformers gives other probabilities token by token "
                'than for the text as a whole; sample it with kind = "vllm"'
            )
        model.__dict__[_KNOWN] = known
    return known


def decode(
    model: PreTrainedModel,
    batch: Sequence[PromptTokens],
    settings: SamplingSettings,
    end_ids: Sequence[int],
) -> Decoded:
    """Token ids of each row and their log-probabilities, in the way that suits the model.

    Rows that may become long for a model whose positions depend on it are read whole.
    """
    way = way_of(model)
    switch = switching_length(model)
    longest = max(len(prompt.ids) for prompt in batch) + settings.max_tokens
    if switch is not None and longest > switch:
        way = "plain"
    return _decode(model, batch, settings, end_ids, way)


def _decode(
    model: PreTrainedModel,
    batch: Sequence[PromptTokens],
    settings: SamplingSettings,
    end_ids: Sequence[int],
    way: Way,
) -> Decoded:
    if way == "batched":
        return _Batched(model, batch, settings, end_ids).run()
    return [_one_row(model, prompt, settings, end_ids, way) for prompt in batch]


def _is_right(model: PreTrainedModel, way: Way) -> bool:
    words = model.get_input_embeddings().weight.shape[0]
    prompts = [[i % words for i in ids] for ids in ([5, 9, 3, 7, 4, 6, 8], [2, 6, 1])]
    rows = [PromptTokens(i, prompts[min(i, 1)], seed=i) for i in range(3)]
    settings = SamplingSettings(max_tokens=5)
    try:
        with torch.inference_mode(), scaled(0):
            free = _decode(model, rows, settings, (), way)
            ends = [ids[1] for ids, _ in free[1:]]
            ended = _decode(model, rows, settings, ends, way)
            both = [_difference(model, rows, made) for made in (free, ended)]
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, RuntimeError):
        return False
    low = model.dtype != torch.float32 or torch.is_autocast_enabled(model.device.type)
    return max(both) <= (_LOW_TOLERANCE if low else _TOLERANCE)


def _difference(model: PreTrainedModel, rows: Sequence[PromptTokens], made: Decoded) -> float:
    """How far the rows' log-probabilities are from those of each row read whole, in nats."""
    apart = [
        float(completion_logps(model, [RenderedCompletion(row.ids, ids)])[0]) - sum(said)
        for row, (ids, said) in zip(rows, made, strict=True)
    ]
    worst = max(map(abs, apart))
    return worst if worst == worst else float("inf")


def _one_row(
    model: PreTrainedModel,
    prompt: PromptTokens,
    settings: SamplingSettings,
    end_ids: Sequence[int],
    way: Way,
) -> tuple[list[int], list[float]]:
    noise = torch.from_numpy(uniforms([prompt.seed], settings.max_tokens)).to(model.device)
    logps: list[float] = []
    ids, state = list(prompt.ids), _State(model, keep=way == "single")
    for step in range(settings.max_tokens):
        beat(1 / settings.max_tokens)
        chosen, logp = draw(state.logits_after(ids), noise[:, step], settings)
        ids.append(int(chosen))
        logps.append(float(logp))
        if ids[-1] in end_ids:
            beat(1 - (step + 1) / settings.max_tokens)
            break
    return ids[len(prompt.ids) :], logps


class _State:
    """What a model hands back of the tokens that it has read, to be given to it again."""

    _NAMES = ("past_key_values", "cache_params", "state")

    def __init__(self, model: PreTrainedModel, *, keep: bool) -> None:
        self._model: Any = model
        self._keep = keep
        self._read = 0
        self._kept: dict[str, Any] = {}

    def logits_after(self, ids: Sequence[int]) -> Tensor:
        """Logits (1, vocabulary) after all of `ids`, of which what is new is read."""
        unread = torch.tensor([ids[self._read :]], device=self._model.device)
        output = self._model(input_ids=unread, use_cache=self._keep, **self._kept)
        if self._keep:
            handed = ((name, getattr(output, name, None)) for name in self._NAMES)
            self._kept = {name: value for name, value in handed if value is not None}
            if not self._kept:
                raise ValueError("the model hands no state back")
            self._read = len(ids)
        logits: Tensor = output.logits[:, -1]
        return logits


@dataclass
class _Batched:
    """One batch of prompts, decoded to the end."""

    model: PreTrainedModel
    batch: Sequence[PromptTokens]
    settings: SamplingSettings
    end_ids: Sequence[int]

    def run(self) -> Decoded:
        """Token ids and logps of each row.

        Rows that have ended stay in the batch, unread, until half of it has ended; then they are
        dropped, so that the cache is copied only a few times.
        """
        device = self.model.device
        rows, limit = len(self.batch), self.settings.max_tokens
        noise = torch.from_numpy(uniforms([p.seed for p in self.batch], limit)).to(device)
        tokens = torch.zeros((rows, limit), dtype=torch.long, device=device)
        logps = torch.zeros((rows, limit), dtype=torch.float64, device=device)
        ends = torch.tensor(list(self.end_ids), dtype=torch.long, device=device)
        lengths = torch.full((rows,), limit, dtype=torch.long, device=device)
        alive = torch.arange(rows, device=device)  # rows still in the batch
        running = torch.ones(rows, dtype=torch.bool, device=device)  # of those, not ended
        logits, cache, mask = self._prefill(device)
        for step in range(limit):
            beat(rows / limit)
            chosen, chosen_logps = draw(logits, noise[alive, step], self.settings)
            tokens[alive, step], logps[alive, step] = chosen, chosen_logps
            ended = running & torch.isin(chosen, ends)
            lengths[alive[ended]] = step + 1
            running &= ~ended
            left = int(running.sum())
            if left == 0 or step + 1 == limit:
                beat(rows * (1 - (step + 1) / limit))
                break
            if 2 * left <= len(alive):
                keep = running.nonzero().squeeze(1)
                alive, running, chosen, mask = alive[keep], running[keep], chosen[keep], mask[keep]
                cache.batch_select_indices(keep)
            mask = torch.cat([mask, mask.new_ones((len(mask), 1))], dim=1)
            logits = self._forward(chosen[:, None], mask, cache)
        tokens, logps = tokens.cpu(), logps.cpu()
        return [
            (tokens[row, :length].tolist(), logps[row, :length].tolist())
            for row, length in enumerate(lengths.tolist())
        ]

    def _prefill(self, device: torch.device) -> tuple[Tensor, Any, Tensor]:
        """Read each distinct prompt once, and give every row its copy of logits and cache."""
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

    def _forward(self, input_ids: Tensor, mask: Tensor, cache: Any) -> Tensor:
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
        logits: Tensor = output.logits[:, -1]
        return logits


def _keeps_last_logits(model: PreTrainedModel) -> bool:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(base.forward).parameters
