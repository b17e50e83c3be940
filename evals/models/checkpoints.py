"""Model folders: found, fingerprinted, opened and saved."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from schemas.errors import BackendError, ConfigError, MissingInputError
from schemas.files import first_line
from schemas.ids import content_id, file_sha256
from schemas.stage import Config, Runtime

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Dtype = Literal["float32", "bfloat16"]


class ModelSource(Config):
    """A causal language model: a local folder, or a hub id with a revision."""

    path: str = Field(description="a local folder, or a hub id like meta-llama/Llama-3.2-1B")
    revision: str | None = Field(None, description="hub commit or tag; pin it")
    chat_template: str | None = Field(
        None, description="chatml or role_colon, for a base model whose tokenizer has none"
    )
    trust_remote_code: bool = Field(False, description="run code that comes with the model")

    def files(self) -> list[Path]:
        """The files of a local folder, whose content belongs into a fingerprint.

        Raises:
            MissingInputError: the path is a folder's, and there is no model.
        """
        _refuse_missing_folder(self)
        folder = Path(self.path)
        return sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else []


def torch_device(runtime: Runtime) -> "torch.device":
    """The device that `runtime` asks for; sets the number of threads on the way.

    Raises:
        ConfigError: `cuda` is asked for and there is none.
    """
    import torch

    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError('runtime.device is "cuda" and torch sees no GPU; set it to "auto"')
    if runtime.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(runtime.device)


def model_fingerprint(source: ModelSource) -> str:
    """32 hex digits that name the weights: file contents of a folder, id and revision of a hub."""
    files = source.files()
    if not files:
        return content_id("hub-model", source.path, source.revision or "main")
    folder = Path(source.path)
    digests = [
        f"{p.relative_to(folder)}={file_sha256(p)}"
        for p in files
        if p.suffix in {".safetensors", ".json", ".jinja", ".model", ".txt", ".bin"}
    ]
    return content_id("model", *digests)


def load_tokenizer(source: ModelSource) -> "PreTrainedTokenizerBase":
    """Open a tokenizer, and give it the named chat template where the source has one.

    Raises:
        MissingInputError: no such folder.
        BackendError: the folder or the hub does not give a tokenizer.
    """
    from transformers import AutoTokenizer

    from evals.models.rendering import CHAT_TEMPLATES

    _refuse_missing_folder(source)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source.path, revision=source.revision, trust_remote_code=source.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise BackendError(
            f"{source.path}: no tokenizer ({first_line(error)}); check the name and the network, "
            "or save one into the folder"
        ) from error
    if source.chat_template is not None:
        if source.chat_template not in CHAT_TEMPLATES:
            raise ConfigError(
                f"chat_template {source.chat_template!r}: one of {', '.join(CHAT_TEMPLATES)}"
            )
        tokenizer.chat_template = CHAT_TEMPLATES[source.chat_template]
    return tokenizer


def load_causal_lm(
    source: ModelSource, device: "torch.device", dtype: Dtype = "float32"
) -> "PreTrainedModel":
    """Open a causal language model, a PEFT adapter included, in evaluation mode.

    Raises:
        MissingInputError: no such folder.
        BackendError: the folder or the hub does not give a model.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    _refuse_missing_folder(source)
    _quiet()
    folder = Path(source.path)
    adapter = folder / "adapter_config.json"
    base = json.loads(adapter.read_text())["base_model_name_or_path"] if adapter.exists() else None
    try:
        model = AutoModelForCausalLM.from_pretrained(
            base or source.path,
            revision=None if base else source.revision,
            dtype=getattr(torch, dtype),
            trust_remote_code=source.trust_remote_code,
        )
        if base:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, source.path)
    except (OSError, ValueError, SafetensorError) as error:
        raise BackendError(
            f"{source.path}: cannot be loaded ({first_line(error)}); check the name and the "
            "network, or save the folder again"
        ) from error
    loaded: PreTrainedModel = model.to(device).eval()
    return loaded


def save_checkpoint(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", folder: Path
) -> None:
    """Write a Hugging Face folder: safetensors (or a PEFT adapter) with tokenizer and template."""
    _quiet()
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def _quiet() -> None:
    """Keep transformers' own bars off the terminal: stages show their own progress."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def _refuse_missing_folder(source: ModelSource) -> None:
    path = Path(source.path)
    looks_local = source.path.startswith((".", "/", "~")) or source.path.count("/") > 1
    if looks_local and not path.is_dir():
        raise MissingInputError(
            f"{source.path}: no such model folder; correct the model's path in the recipe"
        )
    if path.is_dir() and not any(
        (path / name).exists() for name in ("config.json", "adapter_config.json")
    ):
        raise MissingInputError(
            f"{source.path}: not a model folder: neither config.json nor adapter_config.json in "
            "it; correct the model's path in the recipe"
        )
