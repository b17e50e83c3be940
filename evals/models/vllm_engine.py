"""A vLLM engine in this process: started, asked and stopped.

vLLM reads its settings from the environment when it is imported and when an engine starts, and
on CPU it takes torch's `set_num_threads` away: both are put back when the engine is closed.
"""

import importlib.util
import json
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from schemas.errors import BackendError, ConfigError, MissingInputError

if TYPE_CHECKING:
    import torch

    from evals.models.checkpoints import ModelSource
    from schemas.stage import Runtime

# Prompts are read whole on CPU, where a seeded request cannot be read in pieces.
CPU_BATCH_TOKENS = 8192
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def vllm_is_installed() -> bool:
    """Whether vLLM can be imported, without importing it."""
    return importlib.util.find_spec("vllm") is not None


def refuse_missing_vllm(what: str, setting: str) -> None:
    """Raises ConfigError where vLLM is not installed; `setting` is what to change instead."""
    if not vllm_is_installed():
        raise ConfigError(
            f"{what}: vLLM is not installed; install it with `make vllm`, or set {setting} to "
            "transformers"
        )


@dataclass(frozen=True)
class EngineSettings:
    """What an engine is started with. `max_model_len`: null takes the model's own limit.

    `runner`: `generate` for language models, `pooling` for classifiers.
    """

    dtype: Literal["auto", "float32", "bfloat16"]
    max_model_len: int | None = None
    runner: Literal["generate", "pooling"] = "generate"


def position_limit(model: "ModelSource") -> int | None:
    """Positions that a model has, its adapter's base's where it is one; None without a limit.

    Raises:
        MissingInputError: a LoRA adapter's base is not there.
        BackendError: the folder or the hub does not give a configuration.
    """
    from transformers import AutoConfig

    adapter = _adapter_config(model)
    try:
        config = AutoConfig.from_pretrained(
            adapter["base_model_name_or_path"] if adapter else model.path,
            revision=None if adapter else model.revision,
            trust_remote_code=model.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        raise BackendError(
            f"{model.path}: no model ({_first_line(error)}); check the name and the network"
        ) from error
    return getattr(config.get_text_config(), "max_position_embeddings", None)


class VllmEngine:
    """A running engine for a model, a PEFT adapter included.

    `context` is the most tokens that a prompt and what follows it may have, None without a limit.
    """

    def __init__(self, model: "ModelSource", settings: EngineSettings, runtime: "Runtime") -> None:
        """Start the engine.

        Raises:
            MissingInputError: a LoRA adapter's base is not there.
            BackendError: vLLM refuses the model.
        """
        self._adapter = _adapter_config(model)
        self._adapter_path = model.path
        self._surroundings = _Surroundings(model, threads=runtime.threads or 1)
        try:
            options = _engine_options(settings, model, runtime, self._adapter)
            self.context: int | None = options["max_model_len"]
            self.llm: Any = _start(model, options)
        except BaseException:
            self._surroundings.restore()
            raise

    def generate(self, prompts: Sequence[Sequence[int]], parameters: Sequence[Any]) -> list[Any]:
        """vLLM's outputs for token ids, in order, all in one continuous batch."""
        # A prefix left over from an earlier call would change the rounding of this one.
        self.llm.reset_prefix_cache()
        with without_compiler():
            outputs: list[Any] = self.llm.generate(
                [{"prompt_token_ids": list(ids)} for ids in prompts],
                list(parameters),
                use_tqdm=False,
                lora_request=self._lora_request(),
            )
        return outputs

    def rewards(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """The one number that a `pooling` engine's classifier gives each row of token ids."""
        from vllm import PoolingParams

        with without_compiler():
            outputs = self.llm.classify(
                [{"prompt_token_ids": list(ids)} for ids in rows],
                pooling_params=PoolingParams(task="classify", use_activation=False),
                use_tqdm=False,
            )
        return [float(output.outputs.probs[0]) for output in outputs]

    def close(self) -> None:
        """Stop the engine and leave the process as it was, so that another can be opened."""
        if self.llm is None:
            return
        import gc

        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self.llm.llm_engine.engine_core.shutdown()
        self.llm = None
        gc.collect()
        cleanup_dist_env_and_memory()
        self._surroundings.restore()

    def _lora_request(self) -> Any:
        if self._adapter is None:
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest("policy", 1, self._adapter_path)


class _Surroundings:
    """The environment and thread settings that an engine needs, and the way back."""

    def __init__(self, model: "ModelSource", threads: int) -> None:
        import torch

        wanted = {
            "VLLM_LOGGING_LEVEL": "ERROR",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_DO_NOT_TRACK": "1",
            "DO_NOT_TRACK": "1",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "OMP_NUM_THREADS": str(threads),
            "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"),
        }
        if Path(model.path).is_dir():
            wanted["HF_HUB_OFFLINE"] = "1"
        changed_by_vllm = ("LD_PRELOAD", "LD_LIBRARY_PATH")
        self._environment = {name: os.environ.get(name) for name in (*wanted, *changed_by_vllm)}
        self._set_num_threads = torch.set_num_threads
        self._threads = torch.get_num_threads()
        os.environ.update(wanted)
        if not torch.cuda.is_available():
            torch.set_num_threads(threads)

    def restore(self) -> None:
        """Put everything back."""
        import torch

        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        torch.set_num_threads = self._set_num_threads
        torch.set_num_threads(self._threads)


def _engine_options(
    settings: EngineSettings,
    model: "ModelSource",
    runtime: "Runtime",
    adapter: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Keyword arguments of `vllm.LLM`."""
    import torch

    base = adapter["base_model_name_or_path"] if adapter else model.path
    limits = (position_limit(model), settings.max_model_len)
    context = min((n for n in limits if n is not None), default=None)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options = {
        "model": base,
        "runner": settings.runner,
        "revision": None if adapter else model.revision,
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
    if device.type == "cpu":
        return options | {
            "enforce_eager": True,
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(CPU_BATCH_TOKENS, context or 0),
            "distributed_executor_backend": "uni",
        }
    return options | {"gpu_memory_utilization": runtime.gpu_memory_utilization}


def _dtype_of(device: "torch.device") -> str:
    return "float32" if device.type == "cpu" else "bfloat16"


def _start(model: "ModelSource", options: dict[str, Any]) -> Any:
    """Import vLLM and start an engine; whatever it raises is its refusal of this model."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
            from vllm import LLM

            return LLM(**options)
    except Exception as error:
        raise BackendError(f"{model.path}: vLLM does not start: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def without_compiler() -> AbstractContextManager[None]:
    """On CPU, run vLLM's few compiled functions as they are: compiling takes 10 s and needs g++."""
    import torch

    if torch.cuda.is_available():
        return nullcontext()
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


def _adapter_config(model: "ModelSource") -> dict[str, Any] | None:
    """The adapter's own configuration where the folder holds one."""
    path = Path(model.path) / "adapter_config.json"
    if not path.exists():
        return None
    adapter: dict[str, Any] = json.loads(path.read_text())
    base = adapter["base_model_name_or_path"]
    if base.startswith("/") and not Path(base).is_dir():
        raise MissingInputError(f"{path}: its base model {base} is not there")
    return adapter
