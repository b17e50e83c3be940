"""What would stop a run later, found before anything is paid for: files, keys, tasks, packages."""

import json
import os
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline.recipe import Recipe
from pipeline.stage_registry import BY_NAME
from schemas.errors import ConfigError, PipelineError

OWN_TASKS = (
    "food_preference",
    "instruction_following",
    "judge_bench",
    "pairwise_win_rate",
    "preference_accuracy",
)
"""The benchmarks that come with this program."""


def problems(recipe: Recipe) -> list[str]:
    """Everything that is known to fail, one line each; what only a model can tell is not here."""
    found = [*_files(recipe), *_keys(recipe), *_tasks(recipe), *_reporters(recipe)]
    return list(dict.fromkeys([*found, *_pointless(recipe), *_lora(recipe)]))


def refuse(recipe: Recipe) -> None:
    """Raises ConfigError with all problems, where there is one."""
    found = problems(recipe)
    if found:
        head = f"{recipe.path}: {len(found)} problem{'s' if len(found) > 1 else ''}:"
        raise ConfigError(("\n  " if len(found) > 1 else " ").join([head, *found]))


def _files(recipe: Recipe) -> Iterator[str]:
    for name, config in recipe.stages.items():
        try:
            BY_NAME[name].files(config)
        except PipelineError as error:
            yield str(error)


def _keys(recipe: Recipe) -> Iterator[str]:
    """Keys of all servers that any stage will ask, the truth's and the contenders' too."""
    for name, config in recipe.stages.items():
        for where, variable in _named(config, "api_key_env", name):
            if variable and not os.environ.get(variable, "").strip():
                yield f"{where}: {variable} is not set in the environment; set it to the key"


def _named(value: Any, wanted: str, where: str) -> Iterator[tuple[str, Any]]:
    """Every setting of a name in a section, with its place."""
    if isinstance(value, BaseModel):
        for key in type(value).model_fields:
            inner = getattr(value, key)
            if key == wanted:
                yield f"{where}.{key}", inner
            yield from _named(inner, wanted, f"{where}.{key}")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _named(inner, wanted, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _named(inner, wanted, f"{where}.{number}")


def _tasks(recipe: Recipe) -> Iterator[str]:
    for task in getattr(recipe.stages.get("evaluate"), "tasks", ()):
        file, at, _ = task.partition("@")
        package, slash, _ = task.partition("/")
        if at or file.endswith(".py"):
            if not Path(file).is_file():
                yield f"evaluate.tasks: {task}: no such file"
        elif slash:
            if find_spec(package) is None:
                yield f"evaluate.tasks: {task}: {package} is not installed; install it first"
        elif task not in OWN_TASKS:
            yield (
                f"evaluate.tasks: {task}: no such task; ours are {', '.join(OWN_TASKS)}, others "
                "are written PACKAGE/TASK or FILE.py@TASK"
            )


def _reporters(recipe: Recipe) -> Iterator[str]:
    for name in recipe.runtime.reporters:
        if find_spec(name) is None:
            yield f"runtime.reporters: {name} is not installed; install prefline[{name}]"


def _pointless(recipe: Recipe) -> Iterator[str]:
    """Settings from which no pair can come."""
    sample: Any = recipe.stages.get("sample")
    if sample is None or "label" not in recipe.stages or sample.outputs:
        return
    if sample.n < 2:
        yield "sample.n: one completion a prompt gives no pair for [label]; take at least 2"
    elif sample.temperature == 0:
        yield "sample.temperature: 0 writes the same completion each time, so [label] finds no pair"


def _lora(recipe: Recipe) -> Iterator[str]:
    """Target modules that a local model does not have."""
    for name, config in recipe.stages.items():
        model = getattr(config, "model", None) or getattr(
            getattr(config, "judge", None), "model", None
        )
        lora = getattr(getattr(config, "training", None), "lora", None)
        targets = getattr(lora, "target_modules", ())
        if model is None or isinstance(targets, str) or not targets:
            continue
        modules = _modules(Path(model.path))
        missing = [one for one in targets if modules and one.split(".")[-1] not in modules]
        if missing:
            yield (
                f"{name}.training.lora.target_modules: {model.path} has no {', '.join(missing)}; "
                f"it has {', '.join(sorted(modules))}"
            )


def _modules(folder: Path) -> set[str]:
    """The names of the modules with weights of a local model, off the headers of its files."""
    found: set[str] = set()
    for path in sorted(folder.glob("*.safetensors")) if folder.is_dir() else ():
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        found |= {
            key.split(".")[-2]
            for key in header
            if key.endswith(".weight") and len(header[key].get("shape", ())) == 2
        }
    return found
