"""Sampling with vLLM, in this process."""

import importlib.util
from typing import TYPE_CHECKING, Literal

from evals.models.samplers.protocol import EngineConfig, Sampler

if TYPE_CHECKING:
    from evals.models.checkpoints import ModelSource
    from schemas.stage import Runtime


def vllm_is_installed() -> bool:
    """Whether vLLM can be imported, without importing it."""
    return importlib.util.find_spec("vllm") is not None


class VllmSampler(EngineConfig):
    """vLLM; an extra that `make vllm` installs."""

    kind: Literal["vllm"] = "vllm"

    def open(self, model: "ModelSource", runtime: "Runtime") -> Sampler:
        """Start the engine."""
        raise NotImplementedError
