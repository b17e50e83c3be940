"""Gradient checkpointing (Chen et al. 2016, arXiv:1604.06174): layers run again in the backward.

Only the inputs of layers are kept; memory falls by the number of a layer's own activations, and a
step takes about a third more computation.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel

from schemas.errors import ConfigError


def refuse_if_not_recomputable(model: PreTrainedModel) -> None:
    """Raises ConfigError where the model's layers cannot be run again."""
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise ConfigError(
            f"training.gradient_checkpointing: {type(model).__name__} does not support it; set it "
            "to false and lower tokens_per_micro_batch"
        )


@contextmanager
def recomputed(model: PreTrainedModel, enabled: bool) -> Iterator[None]:
    """Around a forward pass: its layers keep their inputs only.

    transformers does so only where a layer is in training mode. The layer's flag alone is set, not
    its children's: dropout stays off.
    """
    if not enabled:
        yield
        return
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
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
