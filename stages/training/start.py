"""The model that a training starts from, in the number format that its settings ask for."""

from typing import Any

from evals.models.checkpoints import ModelSource, load_causal_lm, torch_device
from schemas.errors import ConfigError
from schemas.stage import Runtime
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
