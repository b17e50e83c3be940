"""What the machine must have: devices, programs, fast arithmetic."""

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from pipeline.preflight.places import values_of
from pipeline.recipe import Recipe

# Drivers of NVIDIA (also under WSL) and AMD; torch itself takes seconds to ask.
_DRIVERS = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
_CPU_INFO = Path("/proc/cpuinfo")
_FAST_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def has_gpu() -> bool:
    """Whether there is a driver of a GPU that torch could use."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return any(Path(path).exists() for path in _DRIVERS) or bool(shutil.which("nvidia-smi"))


def missing_devices(recipe: Recipe) -> Iterator[str]:
    """A GPU that is asked for and is not there."""
    if recipe.runtime.device == "cuda" and not has_gpu():
        yield 'runtime.device: "cuda", and this machine shows no GPU; set it to "auto"'


def missing_programs(recipe: Recipe) -> Iterator[str]:
    """Packages that a setting needs and that are not installed."""
    for name in recipe.runtime.reporters:
        if find_spec(name) is None:
            yield f"runtime.reporters: {name} is not installed; install prefline[{name}]"
    if recipe.runtime.engine == "ray" and find_spec("ray") is None:
        yield "runtime.engine: ray is not installed; install it with `make ray`, or set local"
    if find_spec("vllm") is None:
        for key in ("kind", "engine"):
            for where, value in values_of(recipe, key):
                if value == "vllm":
                    yield (
                        f"{where}: vLLM is not installed; install it with `make vllm`, or set "
                        "transformers"
                    )


def slow_numbers(recipe: Recipe) -> Iterator[str]:
    """bfloat16 on a CPU that has no units for it."""
    if recipe.runtime.device == "cuda" or (recipe.runtime.device == "auto" and has_gpu()):
        return
    flags = _flags()
    if not flags or flags & _FAST_BFLOAT16:
        return
    for key in ("dtype", "weights"):
        for where, value in values_of(recipe, key):
            if value == "bfloat16":
                yield (
                    f"{where}: bfloat16 is many times slower than float32 on this CPU, which has "
                    f"no units for it; set {where} to float32"
                )


def _flags() -> frozenset[str]:
    """What the CPU can do, as Linux says it; empty elsewhere."""
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        return frozenset()
    said = next((x for x in lines if x.lower().startswith(("flags", "features"))), "")
    return frozenset(said.partition(":")[2].split())
