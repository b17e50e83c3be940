"""Sample completions of the policy, to be compared and learned from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals.memory.inference import sampling_bill, served_bill
from evals.models.contenders import OutputsFile
from evals.models.samplers import AutoSampler, ServerSampler
from evals.models.vllm.engine import vllm_is_installed
from schemas.stage import Runtime, Stage, called_later
from schemas.work import Bill, Known, Work, at_most
from stages.sample.config import SampleConfig


def _files(config: SampleConfig) -> Sequence[Path]:
    sources = [OutputsFile(outputs=path) for path in config.outputs]
    taken = [path for source in sources for path in source.files()]
    return [*taken, *(config.model.files() if config.model and not taken else ())]


def _work(config: SampleConfig, known: Known) -> Work:
    if config.outputs:
        return Work("completions", None, 0)
    found = known.get("ingest", {})
    limits = {"train": config.max_prompts, "dev": config.max_dev_prompts}
    splits = [at_most(found.get(f"prompts/{name}"), n) for name, n in limits.items()]
    by_split = [n for n in splits if n is not None]
    if len(by_split) < len(limits):
        return Work("completions")
    prompts = sum(by_split)
    completions = prompts * config.n
    counts = {"prompts": prompts, "completions": completions}
    return Work("completions", completions, completions * config.max_tokens, counts)


def _memory(config: SampleConfig, shape: Any, runtime: Runtime, device: str) -> Bill | None:
    sampler = config.sampler
    if config.outputs or isinstance(sampler, ServerSampler) or runtime.engine == "ray":
        return None
    dtype = sampler.dtype if sampler.dtype != "auto" else _DTYPES[device]
    if sampler.kind == "vllm" or (sampler.kind == "auto" and _takes_vllm(sampler, device)):
        return served_bill(shape, dtype, _VLLM_CACHE) if device == "cpu" else None
    rows, limit = runtime.sampler_batch_size, sampler.max_model_len
    return sampling_bill(shape, dtype, rows, config.max_tokens, limit, config.n)


_DTYPES = {"cpu": "float32", "cuda": "bfloat16"}
# What vLLM sets aside for keys and values on a CPU, unless its own variable says otherwise.
_VLLM_CACHE = 2**30


def _takes_vllm(sampler: AutoSampler, device: str) -> bool:
    return (device == "cuda" or sampler.on_cpu == "vllm") and vllm_is_installed()


STAGE = Stage(
    name="sample",
    summary="Sample completions of the policy",
    config=SampleConfig,
    inputs=("ingest", "sft"),
    run=called_later("stages.sample.run", "run"),
    version=4,
    files=_files,
    work=_work,
    batches=("sampler_batch_size",),
    model=lambda config: config.model,
    memory=_memory,
)
