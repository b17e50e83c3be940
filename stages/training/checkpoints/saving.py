"""Model folders that training writes: weights as the start has them, files that open as its do.

What training does not change is kept as it came: the tokenizer's files, the generation config,
which learns where the chat template ends a turn, and the keys of the config that older readers look
for. transformers writes the rest.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import cached_file, logging

from evals.models.chat.templates.stopping import with_stops
from evals.models.checkpoints import ModelSource
from schemas.errors import ConfigError
from stages.training.checkpoints.adapters import is_adapted, no_hub_asked
from stages.training.config import SavedDtype

_CONFIG = "config.json"
_GENERATION = "generation_config.json"
_TOKENIZER = "tokenizer_config.json"
_TOKENIZER_FILES = (
    *(_TOKENIZER, "tokenizer.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model"),
    *("sentencepiece.bpe.model", "chat_template.jinja", "chat_template.json"),
)

# Of the start's config: what is said anew, or would be wrong of the weights that are written.
_SAID_ANEW = frozenset({"torch_dtype", "dtype", "quantization_config", "_name_or_path"})


class ModelSaver:
    """Writes models that were made from one start, which is None for a model from scratch."""

    def __init__(
        self,
        source: ModelSource | None,
        tokenizer: PreTrainedTokenizerBase,
        dtype: SavedDtype = "start",
    ) -> None:
        """`dtype`: number format of the weights."""
        self._tokenizer = tokenizer
        base = None if source is None else source.weights
        self._config: dict[str, Any] = json.loads(_file_of(base, _CONFIG) or "{}")
        self._generation = _file_of(base, _GENERATION)
        self._kept = {name: _file_of(source, name) for name in _TOKENIZER_FILES}
        self._new_template = source is not None and source.chat_template is not None
        name = declared_dtype(self._config) if dtype == "start" else dtype
        self.dtype: torch.dtype = getattr(torch, name)

    def try_out(self, model: PreTrainedModel) -> None:
        """Write all that `save` writes but the weights, to nowhere.

        Raises:
            ConfigError: saving would fail, with the reason.
        """
        with TemporaryDirectory() as folder, _as_config_error(self._tokenizer.name_or_path):
            plain = _plain(model)
            plain.config.save_pretrained(folder)
            if self._generation is None and getattr(plain, "generation_config", None) is not None:
                plain.generation_config.save_pretrained(folder)
            self._save_tokenizer(Path(folder))
            self._finish_config(Path(folder))
            self._finish_generation(Path(folder))

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        """Write a Hugging Face folder: safetensors, or the adapter of a PEFT model.

        A weight that two modules share is written once.
        """
        logging.disable_progress_bar()  # stages show their own progress
        folder.mkdir(parents=True, exist_ok=True)
        if is_adapted(model):
            with no_hub_asked(model):
                model.save_pretrained(folder, safe_serialization=True)
        else:
            weights = _cast(model.state_dict(), self.dtype)
            with self._generation_config_aside(model):
                model.save_pretrained(folder, state_dict=weights)
            self._finish_config(folder)
        self._finish_generation(folder)
        self._save_tokenizer(folder)

    @contextmanager
    def _generation_config_aside(self, model: PreTrainedModel) -> Iterator[None]:
        """The start's file is copied: transformers would refuse to write what it has read."""
        before = getattr(model, "generation_config", None)
        if self._generation is not None:
            model.generation_config = GenerationConfig()
        try:
            yield
        finally:
            if before is not None:
                model.generation_config = before

    def _finish_config(self, folder: Path) -> None:
        path = folder / _CONFIG
        config = json.loads(path.read_text(encoding="utf-8"))
        _keep_missing(config, self._config)
        name = str(self.dtype).removeprefix("torch.")
        config |= {"dtype": name, "torch_dtype": name}
        rope = config.get("rope_parameters")
        if isinstance(rope, dict) and "rope_theta" in rope:
            config.setdefault("rope_theta", rope["rope_theta"])
        _write_json(path, config)

    def _finish_generation(self, folder: Path) -> None:
        """What the start's file says, and where the chat template ends a turn."""
        path = folder / _GENERATION
        if self._generation is not None:
            path.write_bytes(self._generation)
        said = json.loads(path.read_bytes()) if path.exists() else {}
        ends = with_stops(said, self._tokenizer)
        if ends != said:
            _write_json(path, ends)

    def _save_tokenizer(self, folder: Path) -> None:
        self._tokenizer.save_pretrained(folder)
        kept = {name: data for name, data in self._kept.items() if data is not None}
        for name, data in kept.items():
            if not (self._new_template and name.startswith("chat_template")):
                (folder / name).write_bytes(data)
        if self._new_template or not kept:
            config = json.loads((folder / _TOKENIZER).read_text(encoding="utf-8"))
            _write_json(folder / _TOKENIZER, self._readable_by_older(config))

    def _readable_by_older(self, config: dict[str, Any]) -> dict[str, Any]:
        """A tokenizer's config with the names that transformers 4 knows."""
        if config.get("tokenizer_class") == "TokenizersBackend":
            config["tokenizer_class"] = "PreTrainedTokenizerFast"
        extra = config.get("extra_special_tokens")
        if isinstance(extra, list):
            config["additional_special_tokens"] = config.pop("extra_special_tokens")
        return config | {"chat_template": self._tokenizer.chat_template}


def declared_dtype(config: Mapping[str, Any]) -> str:
    """The number format that a model's config.json says its weights have."""
    inner = config.get("text_config") or {}
    names = (part.get(key) for part in (config, inner) for key in ("dtype", "torch_dtype"))
    found = next((str(name) for name in names if name), "float32").removeprefix("torch.")
    return found if found in ("float32", "bfloat16", "float16") else "float32"


def _file_of(source: ModelSource | None, name: str) -> bytes | None:
    """A file of a model's folder, or of the hub's copy on this machine; None where it has none."""
    if source is None:
        return None
    local = Path(source.path)
    if local.is_dir():
        return (local / name).read_bytes() if (local / name).is_file() else None
    try:
        found = cached_file(
            source.path,
            name,
            revision=source.revision,
            local_files_only=True,
            _raise_exceptions_for_missing_entries=False,
        )
    except (OSError, ValueError):
        return None
    return Path(found).read_bytes() if found else None


def _keep_missing(config: dict[str, Any], start: Mapping[str, Any]) -> None:
    """Add to `config`, in place, what only the start says."""
    for name, value in start.items():
        if isinstance(value, dict) and isinstance(config.get(name), dict) and "config" in name:
            _keep_missing(config[name], value)
        elif name not in config and name not in _SAID_ANEW:
            config[name] = value


def _cast(weights: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Floating-point weights in `dtype`; what is shared stays shared."""
    made: dict[tuple[Any, ...], Tensor] = {}

    def cast(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() or tensor.dtype == dtype:
            return tensor
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if place not in made:
            made[place] = tensor.to(dtype)
        return made[place]

    return {name: cast(tensor) for name, tensor in weights.items()}


def _plain(model: Any) -> Any:
    return model.get_base_model() if is_adapted(model) else model


@contextmanager
def _as_config_error(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{name}: what training makes of this model could not be saved ({first}); mend its "
            "config.json, generation_config.json or tokenizer files"
        ) from error


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
