"""What a vLLM engine is started with, and what is said where it does not start."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evals.models.adapters import read_adapter_config
from evals.models.checkpoints import ModelSource, library_errors, positions_of
from schemas.errors import BackendError, ConfigError
from schemas.files import first_line
from schemas.stage import Runtime

if TYPE_CHECKING:
    import torch

# Prompts are read whole on CPU, where a seeded request cannot be read in pieces.
CPU_BATCH_TOKENS = 8192
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# Only whole blocks of a prefix are shared. vLLM's own choice on CPU, 128, is longer than many
# prompts; 32 is the least that its CPU kernels are made for.
CPU_BLOCK_TOKENS = 32


@dataclass(frozen=True)
class EngineSettings:
    """What an engine is started with. `max_model_len`: null takes the model's own limit.

    `runner`: `generate` for language models, `pooling` for classifiers.
    """

    dtype: Literal["auto", "float32", "bfloat16"]
    max_model_len: int | None = None
    runner: Literal["generate", "pooling"] = "generate"


def position_limit(model: ModelSource) -> int | None:
    """Positions that a model has, its adapter's base's where it is one; None without a limit.

    Raises:
        MissingInputError: a LoRA adapter's base is not there.
        BackendError: the folder or the hub does not give a configuration.
    """
    from transformers import AutoConfig

    whole = model.weights
    with library_errors(f"{model.path}: no model", "check the name and the network"):
        config = AutoConfig.from_pretrained(
            whole.path,
            revision=whole.commit or whole.revision,
            trust_remote_code=model.trust_remote_code,
        )
    return positions_of(config)


def engine_options(
    settings: EngineSettings,
    model: ModelSource,
    runtime: Runtime,
    adapter: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Keyword arguments of `vllm.LLM`.

    Raises:
        ConfigError: the model is to be split over more GPUs than there are.
    """
    import torch

    whole = model.weights
    limits = (position_limit(model), settings.max_model_len)
    context = min((n for n in limits if n is not None), default=None)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _refuse_missing_gpus(runtime, torch.cuda.device_count())
    options = {
        "model": whole.path,
        "runner": settings.runner,
        "revision": whole.commit or whole.revision,
        "trust_remote_code": model.trust_remote_code,
        "dtype": settings.dtype if settings.dtype != "auto" else _dtype_of(device),
        "max_model_len": context,
        "seed": 0,
        # A classifier's engine opens the tokenizer, whatever it is told.
        "skip_tokenizer_init": settings.runner == "generate",
        "generation_config": "vllm",
        "logprobs_mode": "raw_logprobs",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if adapter:
        rank = next((r for r in LORA_RANKS if r >= adapter["r"]), adapter["r"])
        options |= {"enable_lora": True, "max_lora_rank": rank, "max_loras": 1}
    if settings.runner == "generate":
        options["enable_prefix_caching"] = True
    if device.type == "cpu":
        return options | {
            "enforce_eager": True,
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(CPU_BATCH_TOKENS, context or 0),
            "block_size": CPU_BLOCK_TOKENS,
            "distributed_executor_backend": "uni",
        }
    return options | {
        "gpu_memory_utilization": runtime.gpu_memory_utilization,
        "tensor_parallel_size": runtime.tensor_parallel_size,
        "pipeline_parallel_size": runtime.pipeline_parallel_size,
    }


def _dtype_of(device: "torch.device") -> str:
    return "float32" if device.type == "cpu" else "bfloat16"


def _refuse_missing_gpus(runtime: Runtime, gpus: int) -> None:
    wanted = runtime.tensor_parallel_size * runtime.pipeline_parallel_size
    if wanted > max(gpus, 1):
        raise ConfigError(
            f"runtime.tensor_parallel_size {runtime.tensor_parallel_size} times "
            f"pipeline_parallel_size {runtime.pipeline_parallel_size}: this process sees {gpus} "
            "GPUs; lower them, or, on Ray, raise runtime.ray.gpus_per_worker"
        )


# Words of what vLLM and torch say where memory is short, on GPU and on CPU.
_SHORT_OF_MEMORY = (
    "out of memory",
    "allocate memory",
    "memory utilization",
    "gpu_memory_utilization",
    "kv cache",
    "cache blocks",
)


def refusal(error: Exception, model: ModelSource, options: Mapping[str, Any]) -> BackendError:
    """What to raise where vLLM does not start: one line, with the settings that may help."""
    said = first_line(error)
    line = f"{model.path}: vLLM does not start: {said}"
    lowered = f"{type(error).__name__} {error}".lower()
    if isinstance(error, MemoryError) or any(words in lowered for words in _SHORT_OF_MEMORY):
        short = said.split(". ")[0].rstrip(".")
        line = f"{model.path}: not enough memory for vLLM ({short}); {_remedies(options)}"
    return BackendError(line)


def _remedies(options: Mapping[str, Any]) -> str:
    context = options["max_model_len"]
    if "gpu_memory_utilization" not in options:
        room = "raise VLLM_CPU_KVCACHE_SPACE (GiB for keys and values) in the environment"
    else:
        room = (
            "free the GPU of other programs, change runtime.gpu_memory_utilization "
            f"({options['gpu_memory_utilization']:g}), raise runtime.tensor_parallel_size "
            f"({options['tensor_parallel_size']})"
        )
    return (
        f"lower the engine's max_model_len (judges: max_prompt_tokens; now {context} tokens), "
        f"{room}, or set dtype to bfloat16 (now {options['dtype']}), and run the stage again"
    )


def adapter_config(model: ModelSource) -> dict[str, Any] | None:
    """A LoRA adapter's own configuration where the folder holds one.

    Raises:
        MissingInputError, DataError: its base model is not there, or not the one it belongs to.
    """
    if model.base is None:
        return None
    return read_adapter_config(Path(model.path))
