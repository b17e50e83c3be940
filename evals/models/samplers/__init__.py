"""Samplers: engines that let a causal language model write completions.

A new one is a module with a config class of its own `kind` and an `open` method, and one more
member of `SamplerConfig`.
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from evals.models.contenders import ServedModel
from evals.models.samplers.protocol import (
    EngineConfig,
    Sample,
    SampledCompletion,
    Sampler,
    SampleRequest,
    SamplingSettings,
    Unsampled,
)
from evals.models.samplers.server import ServerSampler
from evals.models.samplers.transformers import TransformersSampler
from evals.models.samplers.vllm import VllmSampler
from evals.models.vllm.engine import vllm_is_installed

if TYPE_CHECKING:
    from evals.models.checkpoints import ModelSource
    from schemas.stage import Runtime

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


class AutoSampler(EngineConfig):
    """vLLM where it is installed and there is a GPU, else transformers."""

    kind: Literal["auto"] = "auto"
    on_cpu: Literal["transformers", "vllm"] = Field(
        "transformers", description="what to take without a GPU; vllm only where it is installed"
    )

    def open(self, model: "ModelSource", runtime: "Runtime") -> Sampler:
        """Open the engine that suits this machine."""
        from evals.models.checkpoints import torch_device

        common = self.model_dump(exclude={"kind", "on_cpu"})
        wanted = self.on_cpu == "vllm" or torch_device(runtime).type == "cuda"
        if wanted and vllm_is_installed():
            return VllmSampler(**common).open(model, runtime)
        return TransformersSampler(**common).open(model, runtime)


SamplerConfig = Annotated[
    AutoSampler | VllmSampler | TransformersSampler | ServerSampler, Field(discriminator="kind")
]


def open_sampler(
    config: AutoSampler | VllmSampler | TransformersSampler | ServerSampler,
    model: "ModelSource | ServedModel",
    runtime: "Runtime",
) -> Sampler:
    """Load a model into the engine that the config names. Close it before opening another.

    A model that a server has needs no engine.

    Raises:
        ConfigError: the engine is not installed, or the device is not there.
        MissingInputError: no such model folder.
        BackendError: the engine refuses the model.
    """
    if isinstance(model, ServedModel):
        from evals.models.samplers.chat_server import ChatServerSampling

        return ChatServerSampling(model, runtime)
    return config.open(model, runtime)
