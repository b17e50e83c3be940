"""Whether a model that was loaded is the one that its files describe.

transformers makes up what a checkpoint does not have, with random numbers and a warning. A model
that is partly made up answers like any other, so it is refused.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from schemas.errors import BackendError

_WHOLE = ("I", "U", "BOOL")
# Parts of models that see or hear, which a causal language model leaves out.
_OTHER_SENSES = ("vision", "visual", "audio", "multi_modal", "image", "mm_projector")


def refuse_unsound(path: str, model: nn.Module, info: Mapping[str, Any]) -> None:
    """Check what transformers says of loading a checkpoint, and every number of the weights.

    Args:
        path: what to call it.
        model: as it was loaded.
        info: of `output_loading_info=True`.

    Raises:
        BackendError: weights are missing, left over, of another shape, whole numbers that nothing
            says how to read, or not finite.
    """
    mismatched = [key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]]
    _refuse(path, "gives another shape than its config.json to", mismatched)
    _refuse(path, "has no weights for", info["missing_keys"])
    left = [k for k in info["unexpected_keys"] if not any(part in k for part in _OTHER_SENSES)]
    _refuse(path, "has weights that its config.json has no place for:", left)
    _refuse_whole_numbers(path, model)
    refuse_not_finite(path, model)


def _refuse_whole_numbers(path: str, model: nn.Module) -> None:
    """Quantised weights whose quantisation config.json does not name would be taken as they are."""
    if getattr(model.config, "quantization_config", None) is not None:
        return
    real = {name for name, weight in model.named_parameters() if weight.is_floating_point()}
    for file in sorted(Path(path).glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            kinds = {n: tensors.get_slice(n).get_dtype() for n in real & set(tensors.keys())}
        whole = [name for name, kind in kinds.items() if kind.startswith(_WHOLE)]
        _refuse(path, "holds whole numbers, and config.json names no quantization, for", whole)


def refuse_not_finite(path: str, model: nn.Module) -> None:
    """Raises BackendError where a weight is infinite or no number."""
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and not weight.is_meta and not _is_finite(weight):
            raise BackendError(
                f"{path}: {name} holds numbers that are not finite; take an earlier checkpoint, "
                "or save the model again"
            )


def _is_finite(weight: torch.Tensor) -> bool:
    # The sum is finite only where all are, and costs no second tensor; where it overflows, look.
    return bool(weight.detach().float().sum().isfinite()) or bool(weight.detach().isfinite().all())


def refuse_unsound_adapter(path: str, expected: Iterable[str], found: Iterable[str]) -> None:
    """Raises BackendError where an adapter's file does not hold what its configuration adapts."""
    wanted, there = set(expected), set(found)
    if not wanted & there:
        raise BackendError(
            f"{path}: no weight of the adapter belongs to a module of its base model; check that "
            "the base is the one it was trained on"
        )
    _refuse(path, "has no weights for", wanted - there)
    left = [name for name in there - wanted if "lora_" in name]
    _refuse(path, "has weights that its adapter_config.json has no place for:", left)


def _refuse(path: str, what: str, keys: Iterable[str]) -> None:
    names = sorted(keys)
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise BackendError(
            f"{path}: {what} {names[0]}{more}; config.json and weights are not of one model: save "
            "the folder again"
        )
