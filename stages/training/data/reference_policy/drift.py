"""How far the trainer's log-probabilities of sampled tokens are from those of the sampler."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from evals.models.rendering import ChatRenderer
from evals.models.samplers.prompts import asked_with
from schemas.parquet import iter_batches, rows_of
from schemas.stage import StageContext
from schemas.tables import DECIDING, PREFERENCE_PAIRS

BOUNDS = {"float32": 0.01, "bfloat16": 0.05}
"""The 99th percentile of |difference| per token, in nats, above which there is a warning."""
_MOST_PAIRS = 32


@dataclass(frozen=True)
class Drift:
    """|log p of the sampler - log p of the trainer| over `tokens` tokens, in nats."""

    tokens: int
    mean: float
    p99: float
    bound: float

    def warning(self) -> str | None:
        """What to say where sampler and trainer disagree."""
        if self.p99 <= self.bound:
            return None
        return (
            f"train: the sampler's and the trainer's log-probabilities of the same tokens differ "
            f"by {self.p99:.3f} nats at the 99th percentile (mean {self.mean:.4f}, more than "
            f"{self.bound:g}): they do not run the same model; sample and train in one precision"
        )


def sampler_drift(
    model: PreTrainedModel, policy: str, renderer: ChatRenderer, context: StageContext, dtype: str
) -> Drift | None:
    """Compare on the first pairs that this model has written; None where there are none.

    Args:
        model: the policy as training starts from it.
        policy: its fingerprint, as samplers write it.
        renderer: of its tokenizer and template.
        context: of the train stage.
        dtype: the precision that training computes in.
    """
    if not context.has("label"):
        return None
    found = [
        np.abs(np.asarray(row[f"{side}_logps"]) - _logps(model, renderer, row, side))
        for row in islice(_own(context, policy, renderer), _MOST_PAIRS)
        for side in ("chosen", "rejected")
    ]
    if not found:
        return None
    drift = np.concatenate(found)
    p99, bound = float(np.quantile(drift, 0.99)), BOUNDS.get(dtype, BOUNDS["bfloat16"])
    return Drift(len(drift), float(drift.mean()), p99, bound)


def _own(context: StageContext, policy: str, renderer: ChatRenderer) -> Iterator[Mapping[str, Any]]:
    path = context.input("label", PREFERENCE_PAIRS.file_name)
    for batch in iter_batches(path, PREFERENCE_PAIRS, 256, DECIDING):
        for row in rows_of(batch):
            drawn = row["chosen_logps"] and row["rejected_logps"]
            if drawn and (row["policy"], row["tokens_of"]) == (policy, renderer.fingerprint):
                yield row


@torch.inference_mode()
def _logps(
    model: PreTrainedModel, renderer: ChatRenderer, row: Mapping[str, Any], side: str
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """[tokens] log p of each drawn token, by one forward of its own."""
    asked = asked_with(renderer, row["tools"], row["chat_template_kwargs"])
    prompt, drawn = renderer.prompt_ids(row["prompt"], asked), row[f"{side}_token_ids"]
    ids = torch.tensor([[*prompt, *drawn]], device=model.device)
    was_training = model.training
    model.eval()
    logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float()
    model.train(was_training)
    targets = ids[0, len(prompt) :, None]
    logps = torch.log_softmax(logits, dim=-1).gather(1, targets)[:, 0]
    found: np.ndarray[Any, np.dtype[np.float64]] = logps.double().cpu().numpy()
    return found
