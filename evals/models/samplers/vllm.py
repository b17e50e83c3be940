"""Sampling with vLLM, in this process.

vLLM reads its settings from the environment when it is imported and when an engine starts, and
on CPU it takes torch's `set_num_threads` away: both are put back when the engine is closed.
"""

import importlib.util
import json
import logging
import os
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evals.models.samplers.protocol import (
    EngineConfig,
    PromptTokens,
    Sample,
    SampledCompletion,
    SampleRequest,
    SamplingSettings,
    tokenize_requests,
)
from schemas.errors import BackendError, ConfigError, MissingInputError

if TYPE_CHECKING:
    from evals.models.checkpoints import ModelSource
    from evals.models.rendering import ChatRenderer
    from schemas.stage import Runtime

# Prompts are read whole on CPU, where a seeded request cannot be read in pieces.
CPU_BATCH_TOKENS = 8192
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def vllm_is_installed() -> bool:
    """Whether vLLM can be imported, without importing it."""
    return importlib.util.find_spec("vllm") is not None


class VllmSampler(EngineConfig):
    """vLLM, which a GPU should run with; an extra that `make vllm` installs."""

    kind: Literal["vllm"] = "vllm"

    def open(self, model: "ModelSource", runtime: "Runtime") -> "VllmEngine":
        """Start the engine.

        Raises:
            ConfigError: vLLM is not installed.
            MissingInputError: no such model folder, or a LoRA adapter's base is not there.
            BackendError: vLLM refuses the model.
        """
        if not vllm_is_installed():
            raise ConfigError(
                "sampler kind 'vllm': vLLM is not installed; install it with `make vllm`, or set "
                "kind to 'transformers'"
            )
        from evals.models.checkpoints import load_tokenizer, model_fingerprint
        from evals.models.rendering import ChatRenderer

        renderer = ChatRenderer(load_tokenizer(model))
        return VllmEngine(self, model, runtime, renderer, model_fingerprint(model))


class VllmEngine:
    """A running engine and its renderer."""

    name = "vllm"

    def __init__(
        self,
        config: VllmSampler,
        model: "ModelSource",
        runtime: "Runtime",
        renderer: "ChatRenderer",
        fingerprint: str,
    ) -> None:
        self.fingerprint = fingerprint
        self._renderer = renderer
        self._adapter = _adapter_config(model)
        self._adapter_path = model.path
        self._surroundings = _Surroundings(model, threads=runtime.threads or 1)
        try:
            options = _engine_options(config, model, runtime, self._adapter)
            self._context = options["max_model_len"]
            self._engine: Any = _start(model, options)
        except BaseException:
            self._surroundings.restore()
            raise

    def sample(self, requests: Sequence[SampleRequest], settings: SamplingSettings) -> list[Sample]:
        """One answer per request, in their order, all in one continuous batch."""
        if self._engine is None:
            raise RuntimeError("the sampler is closed")
        fitting, refused = tokenize_requests(
            self._renderer, requests, self._context, settings.max_tokens
        )
        answers: dict[int, Sample] = dict(refused)
        if fitting:
            # A prefix left over from an earlier call would change the rounding of this one.
            self._engine.reset_prefix_cache()
            with _without_compiler():
                outputs = self._engine.generate(
                    [{"prompt_token_ids": prompt.ids} for prompt in fitting],
                    [self._parameters(prompt, settings) for prompt in fitting],
                    use_tqdm=False,
                    lora_request=self._lora_request(),
                )
            for prompt, output in zip(fitting, outputs, strict=True):
                answers[prompt.index] = self._completion(output.outputs[0])
        return [answers[index] for index in range(len(requests))]

    def close(self) -> None:
        """Stop the engine and leave the process as it was, so that another can be opened."""
        if self._engine is None:
            return
        import gc

        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self._engine.llm_engine.engine_core.shutdown()
        self._engine = None
        gc.collect()
        cleanup_dist_env_and_memory()
        self._surroundings.restore()

    def _parameters(self, prompt: PromptTokens, settings: SamplingSettings) -> Any:
        from vllm import SamplingParams

        return SamplingParams(
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=settings.max_tokens,
            seed=prompt.seed,
            stop_token_ids=self._renderer.end_ids,
            logprobs=0,
            detokenize=False,
        )

    def _lora_request(self) -> Any:
        if self._adapter is None:
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest("policy", 1, self._adapter_path)

    def _completion(self, output: Any) -> SampledCompletion:
        ids = list(output.token_ids)
        stopped = bool(ids) and ids[-1] in self._renderer.end_ids
        return SampledCompletion(
            text=self._renderer.decode(ids[:-1] if stopped else ids),
            token_ids=ids,
            # Raw log-probabilities, before temperature and top_p: the engine's logprobs_mode.
            sum_logps=float(
                sum(step[token].logprob for step, token in zip(output.logprobs, ids, strict=True))
            ),
            finish_reason="stop" if stopped else "length",
        )


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
    config: VllmSampler,
    model: "ModelSource",
    runtime: "Runtime",
    adapter: dict[str, Any] | None,
) -> dict[str, Any]:
    """Keyword arguments of `vllm.LLM`."""
    import torch
    from transformers import AutoConfig

    base = adapter["base_model_name_or_path"] if adapter else model.path
    architecture = AutoConfig.from_pretrained(
        base,
        revision=None if adapter else model.revision,
        trust_remote_code=model.trust_remote_code,
    ).get_text_config()
    context = config.context(getattr(architecture, "max_position_embeddings", None))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options = {
        "model": base,
        "revision": None if adapter else model.revision,
        "trust_remote_code": model.trust_remote_code,
        "dtype": config.torch_dtype(device),
        "max_model_len": context,
        "seed": 0,
        "skip_tokenizer_init": True,
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


def _start(model: "ModelSource", options: dict[str, Any]) -> Any:
    """Import vLLM and start an engine; whatever it raises is its refusal of this model."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
            from vllm import LLM

            return LLM(**options)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BackendError(f"{model.path}: vLLM does not start: {lines[0]}") from error


def _without_compiler() -> AbstractContextManager[None]:
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
