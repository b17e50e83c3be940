"""Gradient checkpointing (Chen et al. 2016, arXiv:1604.06174): layers run again in the backward.

Only the inputs of layers are kept; memory falls by the number of a layer's own activations, and a
step takes about a third more computation. Where the first layers alone are run again, it is less of
both.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from schemas.errors import ConfigError


def is_recomputable(model: PreTrainedModel) -> bool:
    """Whether the model's layers can be run again."""
    return bool(getattr(model, "supports_gradient_checkpointing", False))


def refuse_if_not_recomputable(model: PreTrainedModel) -> None:
    """Raises ConfigError where the model's layers cannot be run again."""
    if not is_recomputable(model):
        raise ConfigError(
            f"training.gradient_checkpointing: {type(model).__name__} does not support it; set it "
            "to false and lower tokens_per_micro_batch"
        )


def layers_to_rerun(model: PreTrainedModel) -> list[nn.Module]:
    """The layers, in their order, where each can be run again by itself; else none."""
    found: list[nn.Module] = [
        m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)
    ]
    expected = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    return found if len(found) == expected else []


@contextmanager
def recomputed(model: PreTrainedModel, first: int) -> Iterator[None]:
    """Around a forward pass: its `first` layers keep their inputs only.

    All layers do where they cannot be told apart.

    transformers does so only where a layer is in training mode. The layer's flag alone is set, not
    its children's: dropout stays off.
    """
    if not first:
        yield
        return
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for layer in layers_to_rerun(model)[first:]:
        layer.gradient_checkpointing = False  # type: ignore[assignment]
    layers = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
    before = [layer.training for layer in layers]
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.training = was
        model.gradient_checkpointing_disable()
