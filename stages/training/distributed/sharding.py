"""Models whose weights, gradients and optimizer state are spread over ranks (FSDP2).

A sharded model is a copy that shares nothing with the plain one but the rank's memory for
loading. Files hold whole tensors, so that any number of ranks continues what any other began.
"""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn import Parameter
from transformers import PreTrainedModel

from schemas.errors import BackendError
from stages.training.distributed.world import current_world

Model = TypeVar("Model", bound="PreTrainedModel")

_PLAIN = "_prefline_plain"


def sharded(model: Model, *, keep: bool = False) -> Model:
    """`model` spread over all ranks, layer by layer; alone, `model` itself.

    Embedding, last norm and LM head form the root unit, which stays whole from the forward to the
    backward: the fused head reads and writes the head's weight between the two. Weights travel in
    float32, as gradients do, and autocast works on them as it does on one rank. Without `keep`
    other ranks than 0 let go of the weights of `model`.

    Raises:
        BackendError: another rank has loaded other weights.
    """
    world = current_world()
    if world.size == 1:
        return model
    assert world.device is not None
    _refuse_other_weights(model)
    mesh = init_device_mesh(world.device.type, (world.size,))
    spread = _sharing_memory(model)
    layers = set(getattr(spread, "_no_split_modules", None) or ())
    for module in list(spread.modules()):
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh)
    fully_shard(spread, mesh=mesh, reshard_after_forward=False)
    spread.to(world.device)
    if not (keep or world.is_main):
        model.to("meta")
    spread.__dict__[_PLAIN] = model  # not an attribute: those of modules are submodules
    return spread


def collected(model: Model) -> Model:
    """The plain model behind a sharded one, on rank 0 with the weights as they are now.

    All ranks must call it. A plain model is returned as it is.
    """
    plain: Model | None = model.__dict__.get(_PLAIN)
    if plain is None:
        return model
    weights = trainable_parameters(plain)
    with torch.no_grad():
        for name, tensor in gathered(trainable_parameters(model)).items():
            weights[name].copy_(tensor)
    return plain


def save_collected(
    model: PreTrainedModel, save: Callable[[PreTrainedModel, Path], None], folder: Path
) -> None:
    """Let `save` write the plain model into a folder. All ranks must call it; rank 0 writes."""
    plain = collected(model)
    folder.mkdir(parents=True, exist_ok=True)
    if current_world().is_main:
        save(plain, folder)


def forget_failed_pass(model: PreTrainedModel) -> None:
    """Make a sharded model usable again after its forward pass has raised.

    Layers that were in the middle of it would take part in no backward pass, without a word.
    """
    if isinstance(model, FSDPModule):
        model.reset_iter_state()


def trainable_parameters(model: PreTrainedModel) -> dict[str, Parameter]:
    """Parameters by name; of a sharded model the shards, also where its root was left whole."""
    if isinstance(model, FSDPModule):
        model.reshard()
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor put together, on every rank; all must call it. Others as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, detached; of sharded ones on the CPU of rank 0, and none on other ranks."""
    world = current_world()
    found = {}
    for name, tensor in tensors.items():
        full = whole(tensor.detach())
        if world.size == 1:
            found[name] = full
        elif world.is_main:
            found[name] = full.cpu()
    return found


def gathered_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """`optimizer.state_dict()` with whole tensors; on other ranks than 0 it has none."""
    state = optimizer.state_dict()
    return {**state, "state": {i: gathered(s) for i, s in state["state"].items()}}


def fill(parameter: Tensor, value: Tensor | None) -> None:
    """Give a parameter rank 0's whole `value`; other ranks need not know it."""
    with torch.no_grad():
        parameter.copy_(_laid_out_like(parameter, value))


def fill_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any] | None) -> None:
    """Load rank 0's whole `state`, as `gathered_optimizer` gave it, into a fresh optimizer."""
    world = current_world()
    if world.size == 1:
        optimizer.load_state_dict(dict(state or {}))
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    outline = world.agree(_outline(state))
    tensors = state["state"] if state else {}
    outline["state"] = {
        index: {
            name: _laid_out_like(parameters[index], tensors.get(index, {}).get(name))
            if small is None
            else small
            for name, small in names.items()
        }
        for index, names in outline["state"].items()
    }
    optimizer.load_state_dict(outline)


def _outline(state: Mapping[str, Any] | None) -> dict[str, Any]:
    """A state without the tensors that are as large as their parameters: these become None."""
    if state is None:
        return {}
    small = {
        index: {name: tensor if tensor.ndim == 0 else None for name, tensor in tensors.items()}
        for index, tensors in state["state"].items()
    }
    return {**state, "state": small}


def _laid_out_like(parameter: Tensor, value: Tensor | None) -> Tensor:
    """Rank 0's whole tensor in the layout of a parameter of the same shape."""
    if not isinstance(parameter, DTensor):
        assert value is not None
        return value
    if value is None:
        value = torch.empty(parameter.shape, dtype=parameter.dtype)
    here = value.to(parameter.device, parameter.dtype)
    return distribute_tensor(here, parameter.device_mesh, parameter.placements)


def _sharing_memory(model: Model) -> Model:
    """A copy whose parameters are the same memory: sharding copies the rank's part out of it."""
    parameters: dict[int, Any] = {
        id(p): torch.nn.Parameter(p.detach(), requires_grad=p.requires_grad)
        for p in model.parameters()
    }
    return copy.deepcopy(model, parameters)


def _refuse_other_weights(model: PreTrainedModel) -> None:
    world = current_world()
    sums = {name: float(p.detach().double().sum()) for name, p in model.named_parameters()}
    if sums != world.agree(sums):
        raise BackendError(
            f"rank {world.rank} has loaded other weights than rank 0: every node must read the "
            "same files; put models and the run directory on a file system that all nodes share"
        )
