"""Whether a training on a CPU has what it frees given back at once."""

from typing import Any

from evals.memory import allocator
from evals.memory.shape import ModelShape, shape_of
from stages.training.config import TrainingConfig


def return_what_is_freed(training: TrainingConfig, model: Any) -> None:
    """Where most of what is made lives a moment only, between others kept for the backward.

    So it is under LoRA: of a pass over 640 tokens of a model of 135M weights that may take 0.3 GB,
    0.1 GB more were holes. The price is 3% of the time. Full fine-tuning in float32 of layers that
    attend in the plain way keeps most of what it makes, and pays where activations are limited.
    """
    if model.device.type == "cpu":
        allocator.return_what_is_freed(not _keeps_what_it_makes(training, model))


def _keeps_what_it_makes(training: TrainingConfig, model: Any) -> bool:
    short = training.optimizer_states != "float32" or training.weights == "bfloat16"
    limited = training.gradient_checkpointing or training.max_activation_gb is not None
    if training.lora is not None or limited or short:
        return False
    shape = shape_of(model.config.to_dict())
    return isinstance(shape, ModelShape) and shape.packs and not shape.mixers
