"""Checkpoints to resume from: whole or not there, only the newest kept, no pickled code loaded."""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from schemas.errors import BackendError, StaleInputError
from schemas.files import SEAL, first_line, is_sound, remove, writing_folder
from schemas.stage import RESUME_FOLDER
from stages.training.distributed.sharding import (
    fill,
    fill_optimizer,
    gathered,
    gathered_optimizer,
    trainable_parameters,
)
from stages.training.distributed.world import current_world

CHECKPOINTS = RESUME_FOLDER

_REMEMBERED = "remembered.safetensors"

Identity = Mapping[str, str]
_Saved = tuple[int, dict[str, Tensor], dict[str, Any]]


@dataclass
class Remembered:
    """What goes on from step to step beside weights and optimizer: a running mean, a reference.

    `record` is the digest of the metrics up to the step; "" in states of earlier versions.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    record: str = ""


def save_training_state(
    output: Path,
    step: int,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    identity: Identity,
    remembered: Remembered | None = None,
) -> None:
    """Write `resume/step-N` atomically, then remove older ones. All ranks call it, rank 0 writes.

    Holds the trainable weights (safetensors), the optimizer's state, the random state, the step
    and `identity`: what the training is defined by beside its config, as the reference policy.
    The tensors are whole, however many ranks trained them.
    """
    weights = gathered(trainable_parameters(model))
    moments = gathered_optimizer(optimizer)
    if not current_world().is_main:
        return
    folder = output / CHECKPOINTS / f"step-{step}"
    with writing_folder(folder, sealed=True) as writing:
        whole = {name: weight.contiguous() for name, weight in weights.items()}
        save_file(whole, writing / "trainable.safetensors")
        torch.save(
            {"optimizer": moments, "random": _random_state(model.device)},
            writing / "optimizer.pt",
        )
        state: dict[str, Any] = {"step": step, "identity": dict(identity)}
        if remembered is not None:
            state["remembered"] = dict(remembered.numbers)
            state["record"] = remembered.record
            if remembered.tensors:
                save_file(dict(remembered.tensors), writing / _REMEMBERED)
        (writing / "state.json").write_text(json.dumps(state))
    for other in (output / CHECKPOINTS).iterdir():
        if other != folder:
            remove(other)


def restore_training_state(
    output: Path,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    identity: Identity,
    remembered: Remembered | None = None,
) -> int | None:
    """Load the newest checkpoint into model and optimizer; returns its step, None without one.

    What else it holds goes into `remembered`.

    All ranks call it; rank 0 reads, whose directory it is.

    Raises:
        StaleInputError: the checkpoint belongs to a training with another identity.
        BackendError: the checkpoint does not fit the model.
    """
    world = current_world()
    folder = world.agree(_newest(output))
    if folder is None:
        return None
    parameters = trainable_parameters(model)
    nothing: _Saved = (0, {}, {})
    step, weights, saved = _read(folder, parameters, identity) if world.is_main else nothing
    for name, parameter in parameters.items():
        fill(parameter, weights.get(name))
    fill_optimizer(optimizer, saved.get("optimizer"))
    if world.size == 1:
        _set_random_state(saved["random"])
    if remembered is not None:
        found = world.agree(_read_remembered(folder) if world.is_main else None)
        assert found is not None
        remembered.numbers, remembered.tensors = found.numbers, found.tensors
        remembered.record = found.record
    return world.agree(step)


def _read_remembered(folder: Path) -> Remembered:
    state = json.loads((folder / "state.json").read_text())
    tensors = folder / _REMEMBERED
    found = load_file(tensors) if tensors.is_file() else {}
    return Remembered(state.get("remembered", {}), found, state.get("record", ""))


def _read(folder: Path, parameters: Mapping[str, Tensor], identity: Identity) -> _Saved:
    """Step, weights and the rest of a checkpoint, checked; raises what the restoring raises."""
    try:
        state = json.loads((folder / "state.json").read_text())
        weights = load_file(folder / "trainable.safetensors")
        # Tensors and numbers only: nothing that a pickle could run.
        saved = torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
    except (
        *(OSError, EOFError, ValueError, RuntimeError),
        *(SafetensorError, pickle.UnpicklingError),
    ) as error:
        raise BackendError(
            f"{folder}: is not a checkpoint that can be read ({first_line(error)}); delete "
            f"{folder.parent} to start over"
        ) from error
    _refuse_other_identity(folder, state["identity"], identity)
    if {n: w.shape for n, w in weights.items()} != {n: p.shape for n, p in parameters.items()}:
        raise BackendError(f"{folder}: weights of another model; delete {folder.parent}")
    return int(state["step"]), weights, saved


def remove_checkpoints(output: Path) -> None:
    """Drop what only a resume needs; called once the trained model is published."""
    remove(output / CHECKPOINTS)


def drop_checkpoints_after(output: Path, last_step: int) -> None:
    """Drop what lies beyond the last step: a shorter training cannot be reached from there."""
    newest = _newest(output)
    if newest is not None and int(newest.name.removeprefix("step-")) > last_step:
        remove_checkpoints(output)


def _newest(output: Path) -> Path | None:
    """The newest checkpoint; what is not as it was written is removed, and worked around."""
    folders = [
        f for f in (output / CHECKPOINTS).glob("step-*") if f.name.removeprefix("step-").isdigit()
    ]
    for folder in sorted(folders, key=lambda f: int(f.name.removeprefix("step-")), reverse=True):
        if (folder / SEAL).exists() and not is_sound(folder):
            remove(folder)
        else:
            return folder
    return None


def _refuse_other_identity(folder: Path, saved: Identity, now: Identity) -> None:
    changed = sorted(k for k in {*saved, *now} if saved.get(k) != now.get(k))
    if changed:
        name = changed[0]
        raise StaleInputError(
            f"{folder}: training began with another {name} ({saved.get(name)}, now "
            f"{now.get(name)}) and cannot continue with it; delete {folder.parent} to start over"
        )


def _random_state(device: torch.device) -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: Mapping[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
