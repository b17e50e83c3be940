"""Settings of samplers; a sampler itself is imported when it is opened."""

from typing import Annotated, Any, Literal

from pydantic import Field

from evals.models.checkpoints import Dtype, ModelSource
from evals.models.http.addresses import Address, KeyVariable
from schemas.stage import Config, Runtime, implementation


class SamplingSettings(Config):
    """From which distribution to sample, and how much."""

    temperature: float = Field(1.0, ge=0, description="0 always takes the most probable token")
    top_p: float = Field(
        1.0, gt=0, le=1, description="sample among the most probable tokens of this total mass"
    )
    max_tokens: int = Field(
        256, ge=1, description="longest completion in tokens, the end token included"
    )
    seed: int = Field(0, ge=0, description="each completion's own seed is derived from it")


class EngineConfig(Config):
    """What every engine can be told."""

    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="precision of the weights; auto is float32 on CPU, bfloat16 on a GPU"
    )
    max_model_len: int | None = Field(
        None,
        ge=2,
        description="tokens of prompt and completion together; null takes the model's own limit",
    )

    def torch_dtype(self, device: Any) -> Dtype:
        """The precision for a device."""
        if self.dtype == "auto":
            return "float32" if device.type == "cpu" else "bfloat16"
        return self.dtype

    def context(self, model_limit: int | None) -> int | None:
        """Tokens that fit, given the model's own limit (None where it has none)."""
        limits = [n for n in (model_limit, self.max_model_len) if n is not None]
        return min(limits, default=None)


class TransformersSampler(EngineConfig):
    """Transformers' models, on CPU or GPU; needs nothing else installed."""

    kind: Literal["transformers"] = "transformers"

    def open(self, model: ModelSource, runtime: Runtime) -> Any:
        """Load the model. Raises what `load_causal_lm` raises."""
        return implementation("evals.models.samplers.transformers:open_engine")(
            self, model, runtime
        )


class VllmSampler(EngineConfig):
    """vLLM, which a GPU should run with; an extra that `make vllm` installs."""

    kind: Literal["vllm"] = "vllm"

    def open(self, model: ModelSource, runtime: Runtime) -> Any:
        """Start the engine.

        Raises:
            ConfigError: vLLM is not installed.
            MissingInputError: no such model folder, or a LoRA adapter's base is not there.
            BackendError: vLLM refuses the model.
        """
        return implementation("evals.models.samplers.vllm:open_engine")(self, model, runtime)


class ServerSampler(Config):
    """A server that `vllm serve` runs with the policy's weights, one machine or many.

    Prompts are rendered here, by the policy's own tokenizer, and sent as token ids. On CPU the
    server needs `--no-enable-chunked-prefill`, or a seed stops it.
    """

    kind: Literal["server"] = "server"
    base_url: Address = Field(description="address of the server, like http://127.0.0.1:8000/v1")
    model: str | None = Field(
        None,
        description="the policy's name there; null takes the model that has the policy's weights, "
        "else the only one",
    )
    api_key_env: KeyVariable | None = Field(
        None, description="environment variable that holds the key; null sends none"
    )

    def open(self, model: ModelSource, runtime: Runtime) -> Any:
        """Open the tokenizer, and see whether the server has the model.

        Raises:
            ConfigError: no key, or the server has another model.
            BackendError: the server does not answer, or the tokenizer cannot be opened.
        """
        return implementation("evals.models.samplers.server:open_server")(self, model, runtime)


class AutoSampler(EngineConfig):
    """vLLM where it is installed and there is a GPU, else transformers."""

    kind: Literal["auto"] = "auto"
    on_cpu: Literal["transformers", "vllm"] = Field(
        "transformers", description="what to take without a GPU; vllm only where it is installed"
    )

    def open(self, model: ModelSource, runtime: Runtime) -> Any:
        """Open the engine that suits this machine."""
        vllm = implementation("evals.models.vllm.engine:is_wanted")(self.on_cpu, runtime)
        kind = VllmSampler if vllm else TransformersSampler
        return kind(**self.model_dump(exclude={"kind", "on_cpu"})).open(model, runtime)


SamplerConfig = Annotated[
    AutoSampler | VllmSampler | TransformersSampler | ServerSampler, Field(discriminator="kind")
]
