"""The model that a training starts from, in the number format that its settings ask for."""

from typing import Any

import torch

from evals.models.checkpoints import ModelSource, load_causal_lm, torch_device
from schemas.errors import ConfigError
from schemas.stage import Runtime
from stages.training.checkpoints.adapters import is_adapted
from stages.training.config import TrainingConfig
from stages.training.distributed.world import current_world, loading_device


def load_start(source: ModelSource, training: TrainingConfig, runtime: Runtime) -> Any:
    """Open the model, an adapter on its base included.

    Raises:
        ConfigError: its weights are to be in 4 bits on several ranks.
        What `load_causal_lm` raises.
    """
    weights = training.weights_on(torch_device(runtime).type)
    if weights == "nf4" and current_world().size > 1:
        raise ConfigError(
            "training.weights: nf4 cannot be shared out over several ranks; train on one rank, or "
            "set it to bfloat16"
        )
    return load_causal_lm(source, loading_device(runtime), weights)


def untrained(model: Any, seed: int) -> Any:
    """A model of the same architecture, sizes and number format that has learned nothing.

    Raises:
        ConfigError: the model is an adapter on its base.
    """
    if is_adapted(model):
        raise ConfigError("fresh_weights: an adapter needs what its base has learned; leave it out")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(model)(model.config)
    return fresh.to(device=model.device, dtype=model.dtype)
