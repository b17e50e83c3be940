"""Model folders looked into without torch: weights, templates, the names of modules."""

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evals.judges.kinds.preference_model import PreferenceModelJudge
from evals.models.adapters import is_adapter
from evals.models.checkpoints import ModelSource
from pipeline.preflight.places import sections_of, values_of
from pipeline.recipe import Recipe
from schemas.errors import PipelineError

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")
_INDEX = "model.safetensors.index.json"


def unfit_models(recipe: Recipe) -> Iterator[str]:
    """Local folders without a configuration, without weights, or without a chat template."""
    without_chat = {f"{where}.model" for where, _ in sections_of(recipe, PreferenceModelJudge)}
    for where, source in sections_of(recipe, ModelSource):
        folder = Path(source.path)
        if folder.is_dir():
            yield from (f"{where}: {folder}: {said}" for said in _unfit(folder))
            if where not in without_chat and not has_template(source):
                yield (
                    f"{where}: {folder}: its tokenizer has no chat template; name one with "
                    f"{where}.chat_template (chatml, role_colon or a file)"
                )


def _unfit(folder: Path) -> Iterator[str]:
    if is_adapter(folder):
        if not any(folder.glob("adapter_model.*")):
            yield "has an adapter's configuration and no adapter_model.safetensors"
        return
    if not (folder / "config.json").is_file():
        return  # told by whoever looks at files
    if not any(path for pattern in _WEIGHTS for path in folder.glob(pattern)):
        yield "has a config.json and no weights (*.safetensors)"
    missing = sorted(set(_weight_map(folder).values()) - {path.name for path in folder.iterdir()})
    if missing:
        yield f"{_INDEX} names {missing[0]}, which is not there; copy the whole folder"


def _weight_map(folder: Path) -> Mapping[str, str]:
    """Tensor names and their files, where the weights are in several."""
    found = _json(folder / _INDEX).get("weight_map", {})
    return found if isinstance(found, dict) else {}


def has_template(source: ModelSource) -> bool:
    """Whether a local model has a chat template, or may have one that cannot be seen from here."""
    if source.chat_template is not None:
        return True
    folders = [Path(source.path)]
    try:
        base = source.base
    except PipelineError:  # told by whoever looks at files
        return True
    if base is not None:
        folders.append(Path(base.path))
    if not all(folder.is_dir() for folder in folders):  # a base on a hub may have one
        return True
    return any(
        any(folder.glob("chat_template*.ji*"))
        or any(folder.glob("chat_template*.json"))
        or bool(_json(folder / "tokenizer_config.json").get("chat_template"))
        or _has_own_tokenizer(folder)
        for folder in folders
    )


def _has_own_tokenizer(folder: Path) -> bool:
    """Whether the tokenizer is code, which may bring its template, or is not in the folder."""
    config = _json(folder / "tokenizer_config.json")
    return not config or "auto_map" in config


def missing_modules(recipe: Recipe) -> Iterator[str]:
    """Target modules of LoRA that a local model does not have."""
    for where, targets in values_of(recipe, "target_modules"):
        stage = where.partition(".")[0]
        config: Any = recipe.stages[stage]
        judge = getattr(config, "judge", None)
        source = getattr(config, "model", None) or getattr(judge, "model", None)
        if source is None or isinstance(targets, str) or not targets:
            continue
        modules = _modules(source)
        missing = [one for one in targets if modules and one.split(".")[-1] not in modules]
        if missing:
            yield (
                f"{where}: {source.path} has no {', '.join(missing)}; "
                f"it has {', '.join(sorted(modules))}"
            )


def _modules(source: ModelSource) -> set[str]:
    """The names of the modules with matrices of a local model, off the headers of its files."""
    try:
        folder = Path(source.weights.path)
    except PipelineError:
        return set()
    found: set[str] = set()
    for path in sorted(folder.glob("*.safetensors")) if folder.is_dir() else ():
        header = _header(path)
        found |= {
            key.split(".")[-2]
            for key, tensor in header.items()
            if key.endswith(".weight") and key.count(".") and len(tensor.get("shape", ())) == 2
        }
    return found


def _header(path: Path) -> dict[str, Any]:
    """The names and shapes in a safetensors file; empty where it is damaged."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            found = json.loads(file.read(min(length, path.stat().st_size)))
    except (OSError, ValueError, struct.error):
        return {}
    return found if isinstance(found, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
