"""Looks at the heap between the layers of a model, on the way forward and on the way back.

Within a layer too: after its attention, its MLP and its norms.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from evals.memory.allocator import Heap

# Bytes that a module gives on, below which it leaves nothing worth a look.
_SMALL = 2**17

_heap = Heap()


def trim() -> None:
    """Give back the holes in the heap where the process is larger than it had to be."""
    _heap.look()


def trim_between_layers(model: nn.Module) -> None:
    """From now on the process holds at its peak little more than what the model needs.

    On a CPU only. What it costs and what it saves is in docs/memory.md.
    """
    if next(model.parameters()).device.type != "cpu":
        return
    for layer in _layers(model):
        if not _is_looked_at(layer):
            for part in (layer, *layer.children()):
                part.register_forward_hook(_look)


def is_trimmed(model: nn.Module) -> bool:
    """Whether every layer of a model that has some is looked at."""
    layers = _layers(model)
    return bool(layers) and all(map(_is_looked_at, layers))


def _layers(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]


def _is_looked_at(layer: nn.Module) -> bool:
    return _look in layer._forward_hooks.values()


def _look(_module: nn.Module, _read: Any, made: Any) -> None:
    found = made if isinstance(made, Sequence) else [made]
    states = next((t for t in found if isinstance(t, Tensor)), None)
    if states is None or states.nbytes < _SMALL:
        return
    trim()
    if states.requires_grad:
        # Called when what follows is differentiated.
        states.register_hook(lambda _gradient: trim())  # type: ignore[no-untyped-call]
