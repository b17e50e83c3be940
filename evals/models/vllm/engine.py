"""A vLLM engine in this process: started, asked and stopped.

vLLM reads its settings from the environment when it is imported and when an engine starts, and
on CPU it takes torch's `set_num_threads` away: both are put back when the engine is closed.
"""

import importlib.util
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from evals.models.checkpoints import ModelSource, torch_device
from evals.models.vllm.options import (
    EngineSettings,
    adapter_config,
    engine_options,
    refusal,
)
from evals.pulse import beat
from schemas.errors import ConfigError
from schemas.stage import Runtime


def vllm_is_installed() -> bool:
    """Whether vLLM can be imported, without importing it."""
    return importlib.util.find_spec("vllm") is not None


def is_wanted(on_cpu: str, runtime: Runtime) -> bool:
    """Whether vLLM should sample here: with a GPU, or where it is asked for, if it is installed."""
    wanted = on_cpu == "vllm" or torch_device(runtime).type == "cuda"
    return wanted and vllm_is_installed()


def refuse_missing_vllm(what: str, setting: str) -> None:
    """Raises ConfigError where vLLM is not installed; `setting` is what to change instead."""
    if not vllm_is_installed():
        raise ConfigError(
            f"{what}: vLLM is not installed; install it with `make vllm`, or set {setting} to "
            "transformers"
        )


class _Beats:
    """In the place of the bar that vLLM draws: what it counts is passed on."""

    def __init__(self, iterable: Iterable[Any] = (), **options: Any) -> None:
        self.n = 0
        self.postfix = ""
        self._iterable = iterable
        self._started = time.monotonic()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._iterable)

    @property
    def format_dict(self) -> dict[str, float]:
        """What vLLM reads to say how fast it is."""
        return {"elapsed": max(1e-9, time.monotonic() - self._started)}

    def update(self, n: int = 1) -> None:
        self.n += n
        beat(n)

    def refresh(self) -> None:
        """Nothing is drawn."""

    def close(self) -> None:
        """Nothing is drawn."""


class VllmEngine:
    """A running engine for a model, a PEFT adapter included.

    `context` is the most tokens that a prompt and what follows it may have, None without a limit.
    """

    def __init__(self, model: ModelSource, settings: EngineSettings, runtime: Runtime) -> None:
        """Start the engine.

        Raises:
            MissingInputError: a LoRA adapter's base is not there.
            BackendError: vLLM refuses the model.
        """
        self._adapter = adapter_config(model)
        self._adapter_path = model.path
        self._surroundings = _Surroundings(model, threads=runtime.threads or 1)
        try:
            options = engine_options(settings, model, runtime, self._adapter)
            self.context: int | None = options["max_model_len"]
            self.llm: Any = _start(model, options)
        except BaseException:
            _clean_up()
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
                use_tqdm=_Beats,
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
                use_tqdm=_Beats,
            )
        return [float(output.outputs.probs[0]) for output in outputs]

    def close(self) -> None:
        """Stop the engine and leave the process as it was, so that another can be opened."""
        if self.llm is None:
            return
        self.llm.llm_engine.engine_core.shutdown()
        self.llm = None
        _clean_up()
        self._surroundings.restore()

    def _lora_request(self) -> Any:
        if self._adapter is None:
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest("policy", 1, self._adapter_path)


class _Surroundings:
    """The environment and thread settings that an engine needs, and the way back."""

    def __init__(self, model: ModelSource, threads: int) -> None:
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


def _start(model: ModelSource, options: dict[str, Any]) -> Any:
    """Import vLLM and start an engine; whatever it raises is its refusal of this model."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
            from vllm import LLM

            return LLM(**options)
    except Exception as error:
        raise refusal(error, model, options) from error


def _clean_up() -> None:
    """Give back what an engine, or one that did not start, leaves in the process."""
    import gc

    gc.collect()
    if "vllm" in sys.modules:
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        cleanup_dist_env_and_memory()


def without_compiler() -> AbstractContextManager[None]:
    """On CPU, run vLLM's few compiled functions as they are: compiling takes 10 s and needs g++."""
    import torch

    if torch.cuda.is_available():
        return nullcontext()
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance
