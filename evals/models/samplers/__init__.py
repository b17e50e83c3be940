"""Samplers: engines that let a causal language model write completions.

A new one is settings of a `kind` of its own in `config`, which is a member of `SamplerConfig`, and
a module that its `open` names.
"""

from evals.models.checkpoints import ModelSource
from evals.models.contenders import ServedModel
from evals.models.samplers.config import (
    AutoSampler,
    SamplerConfig,
    SamplingSettings,
    ServerSampler,
    TransformersSampler,
    VllmSampler,
)
from evals.models.samplers.protocol import (
    Sample,
    SampledCompletion,
    Sampler,
    SampleRequest,
    Unsampled,
)
from schemas.stage import Runtime, implementation

__all__ = [
    "AutoSampler",
    "Sample",
    "SampleRequest",
    "SampledCompletion",
    "Sampler",
    "SamplerConfig",
    "SamplingSettings",
    "ServerSampler",
    "TransformersSampler",
    "Unsampled",
    "VllmSampler",
    "open_sampler",
]


def open_sampler(
    config: AutoSampler | VllmSampler | TransformersSampler | ServerSampler,
    model: ModelSource | ServedModel,
    runtime: Runtime,
) -> Sampler:
    """Load a model into the engine that the config names. Close it before opening another.

    A model that a server has needs no engine.

    Raises:
        ConfigError: the engine is not installed, or the device is not there.
        MissingInputError: no such model folder.
        BackendError: the engine refuses the model.
    """
    if isinstance(model, ServedModel):
        served = "evals.models.samplers.chat_server:ChatServerSampling"
        sampler: Sampler = implementation(served)(model, runtime)
        return sampler
    opened: Sampler = config.open(model, runtime)
    return opened
