"""A published model, opened again: it must give what was measured before it was written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from evals.models.chat.read_only import scored
from evals.models.checkpoints import ModelSource, WeightFormat, load_causal_lm
from evals.models.logps import completion_scores
from evals.models.rendering import RenderedCompletion
from schemas.errors import BackendError
from schemas.files import writing_folder
from stages.training.checkpoints.adapters import fold_adapter, is_adapted
from stages.training.checkpoints.four_bits import weight_format
from stages.training.checkpoints.saving import ModelSaver
from stages.training.data.packing import Tree

# Nats per token that may lie between the two, by number format of the saved weights.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.05, "nf4": 0.1}


@dataclass(frozen=True)
class HeldOutLoss:
    """The loss of one item: nats per completion token, in float32, as plain torch computes it."""

    item: Tree

    def measure(self, model: PreTrainedModel) -> float:
        """Mean -log p of a completion token of the item; all ranks must call it."""
        sequences = [
            RenderedCompletion(list(self.item.prompt_ids), list(ids)) for ids in self.item.branches
        ]
        model.eval()
        with torch.no_grad():
            logps = completion_scores(model, sequences).logps
        return -float(logps.sum()) / sum(map(scored, self.item.branches))


def loss_of_first(*candidates: Sequence[Tree]) -> HeldOutLoss:
    """The loss of the first item of the first of several lists that has one."""
    return HeldOutLoss(next(items[0] for items in candidates if len(items)))


def read_back(
    folder: Path,
    loss: HeldOutLoss,
    before: float,
    device: torch.device,
    dtype: torch.dtype,
    weights: WeightFormat = "float32",
) -> dict[str, Any]:
    """Open a published folder and measure it; returns both losses, for the summary.

    Raises:
        BackendError: it is not the model that was measured.
    """
    model = load_causal_lm(ModelSource(path=str(folder)), device, weights)
    after = loss.measure(model)
    name = str(dtype).removeprefix("torch.")
    if not abs(after - before) <= max(_TOLERANCE[name], _TOLERANCE[weights]):
        raise BackendError(
            f"{folder}: the saved model gives {after:.4g} nats per token where the trained one "
            f"gave {before:.4g}: what is on disk is not what was measured; nothing is published"
        )
    return {"trained": before, "saved": after, "dtype": name}


def publish_whole(
    model: PreTrainedModel, saver: ModelSaver, loss: HeldOutLoss, folder: Path
) -> None:
    """Write a trained model with its adapter folded in, and read it back.

    The folder is there when it has been found to be what was trained. Raises as `read_back`.
    """
    if is_adapted(model):
        model.float()  # it is added to its base in full precision
    before, device, weights = loss.measure(model), model.device, weight_format(model)
    with writing_folder(folder) as writing:
        saver.save(fold_adapter(model), writing)
        read_back(writing, loss, before, device, saver.dtype, _in_full(weights))


def _in_full(weights: WeightFormat) -> WeightFormat:
    """How what was trained on such weights is opened, now that they are written out."""
    return "float32" if weights == "nf4" else weights
