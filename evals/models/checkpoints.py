"""Model folders: found, fingerprinted, opened and saved."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from evals.memory.allocator import use_large_pages
from evals.models.adapters import (
    ADAPTER_CONFIG,
    BASE_RECORD,
    is_adapter,
    is_on_four_bits,
    locate_base,
    read_adapter_config,
)
from evals.models.chat.templates.named_templates import dressed, template_file
from evals.models.hub import commit_of, is_path
from schemas.errors import BackendError, ConfigError, MissingInputError, PipelineError
from schemas.files import first_line, writing_folder
from schemas.hashes import known_sha256
from schemas.ids import content_id
from schemas.stage import Config, Runtime

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_CONTENT = {".safetensors", ".json", ".jinja", ".model", ".txt", ".bin", ".py", ".tiktoken"}
_ABOUT_BASE = {ADAPTER_CONFIG, BASE_RECORD}


def positions_of(config: Any) -> int | None:
    """Most tokens that a model was made for; of a composite model its language model's.

    None where its configuration does not say.
    """
    found: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return found


Dtype = Literal["float32", "bfloat16"]
WeightFormat = Literal["float32", "bfloat16", "nf4"]
"""Of a model in memory. nf4: linear layers in 4 bits (Dettmers et al. 2023, QLoRA), the rest, and
arithmetic, in bfloat16 on a GPU and float32 on a CPU."""


class ModelSource(Config):
    """A causal language model: a local folder, or a hub id with a revision."""

    path: str = Field(description="a local folder, or a hub id like meta-llama/Llama-3.2-1B")
    revision: str | None = Field(None, description="hub commit or tag; pin it")
    chat_template: str | None = Field(
        None,
        description="chatml, role_colon, or the path of a file, where the tokenizer's own is not "
        "wanted or there is none",
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="arguments of the chat template, like { enable_thinking = false }",
    )
    chat_template_date: date | None = Field(
        None,
        description="the day that a chat template which reads the clock is told; null: what was "
        "saved with the model, else 2026-01-01, so that no run depends on its day",
    )
    trust_remote_code: bool = Field(False, description="run code that comes with the model")

    def files(self) -> list[Path]:
        """The files of a local folder, an adapter's base's too: they belong into a fingerprint.

        Raises:
            MissingInputError: the path is a folder's, and there is no model.
            DataError: an adapter's base is not the one it was trained on.
        """
        folder = self.folder
        template = template_file(self.chat_template)
        named = [] if template is None else [template]
        if folder is None:
            return named
        base = self.base
        own = named + sorted(p for p in folder.rglob("*") if p.is_file())
        return own + (base.files() if base else [])

    @property
    def folder(self) -> Path | None:
        """The local folder, None for a hub id. Raises MissingInputError where there is none."""
        _refuse_missing_folder(self)
        folder = Path(self.path)
        return folder if folder.is_dir() else None

    @property
    def base(self) -> "ModelSource | None":
        """What an adapter lies on, None where this is no adapter.

        Raises:
            MissingInputError: it is not there.
            DataError: it is not the one that the adapter was trained on.
        """
        folder = self.folder
        if folder is None or not is_adapter(folder):
            return None
        path = locate_base(
            folder, lambda base, at: model_fingerprint(ModelSource(path=base, revision=at))
        )
        revision = read_adapter_config(folder).get("revision")
        return ModelSource(
            path=path,
            revision=revision if not Path(path).is_dir() else None,
            trust_remote_code=self.trust_remote_code,
        )

    @property
    def commit(self) -> str | None:
        """The commit of a hub's model, the same through a run; None for a local folder."""
        return None if self.folder else commit_of(self.path, self.revision)

    @property
    def weights(self) -> "ModelSource":
        """What holds the weights of the whole model: an adapter's base, else this itself."""
        return self.base or self


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
    """32 hex digits that name the weights: file contents of a folder, id and commit of a hub.

    Of an adapter it is its own content and its base's fingerprint: where either lies is no part.

    Raises:
        What `ModelSource.base` raises.
    """
    folder = source.folder
    if folder is None:
        return content_id("hub-model", source.path, source.commit or source.revision or "main")
    base = source.base
    digests = [
        f"{p.relative_to(folder)}={known_sha256(p)}"
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.suffix in _CONTENT and not (base and p.name in _ABOUT_BASE)
    ]
    if base is None:
        return content_id("model", *digests)
    config = read_adapter_config(folder)
    own = {k: v for k, v in config.items() if k not in ("base_model_name_or_path", "revision")}
    under = model_fingerprint(base)
    if is_on_four_bits(folder):
        under = content_id("weights", under, "nf4")
    return content_id("adapter", json.dumps(own, sort_keys=True), under, *digests)


def load_tokenizer(source: ModelSource) -> "PreTrainedTokenizerBase":
    """Open a tokenizer, and give it the named chat template where the source has one.

    Raises:
        MissingInputError: no such folder.
        BackendError: the folder or the hub does not give a tokenizer.
    """
    from transformers import AutoTokenizer

    revision = source.commit or source.revision
    with library_errors(
        f"{source.path}: no tokenizer",
        "check the name and the network, or save one into the folder",
    ):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source.path, revision=revision, trust_remote_code=source.trust_remote_code
        )
    return dressed(
        tokenizer, source.chat_template, source.chat_template_kwargs, source.chat_template_date
    )


def load_causal_lm(
    source: ModelSource, device: "torch.device", dtype: WeightFormat = "float32"
) -> "PreTrainedModel":
    """Open a causal language model, a PEFT adapter included, in evaluation mode.

    An adapter that was trained on 4-bit weights is opened on 4-bit weights.

    Raises:
        MissingInputError: no such folder.
        BackendError: the folder or the hub does not give a model, or not all of its weights.
        ConfigError: the weights are to be in 4 bits, and bitsandbytes is not installed.
    """
    from transformers import AutoModelForCausalLM

    from evals.models.soundness import refuse_unsound

    _quiet()
    use_large_pages()
    whole = source.weights
    revision = whole.commit or whole.revision
    if whole is not source and source.folder and is_on_four_bits(source.folder):
        dtype = "nf4"
    options = _loading_options(source.path, device, dtype)
    with library_errors(f"{source.path}: cannot be loaded", _SAVE_AGAIN):
        model, info = AutoModelForCausalLM.from_pretrained(
            whole.path,
            revision=revision,
            trust_remote_code=source.trust_remote_code,
            output_loading_info=True,
            **options,
        )
    refuse_unsound(whole.path, model, info)
    if whole is not source:
        model = _with_adapter(model, source)
    loaded: PreTrainedModel = (model if dtype == "nf4" else model.to(device)).eval()
    return loaded


def merge_adapter(adapter: Path, out: Path) -> None:
    """Write an adapter and its base as one model, in the base's number format, with a tokenizer.

    Raises:
        MissingInputError, DataError: the base is not there, or another one.
        ConfigError: the adapter lies on 4-bit weights, which do not take it in exactly.
    """
    import torch

    source = ModelSource(path=str(adapter))
    if is_on_four_bits(adapter):
        raise ConfigError(f"{adapter}: was trained on 4-bit weights, which take no adapter in")
    model: Any = load_causal_lm(source, torch.device("cpu"))
    merged = model.merge_and_unload(safe_merge=True)
    stored = getattr(merged.config, "dtype", None)
    kept = merged.to(stored) if isinstance(stored, torch.dtype) else merged
    with writing_folder(out) as making:
        kept.save_pretrained(making)
        load_tokenizer(source).save_pretrained(making)


def _loading_options(path: str, device: "torch.device", weights: WeightFormat) -> dict[str, Any]:
    """What `from_pretrained` is told of number formats."""
    import torch

    if weights != "nf4":
        return {"dtype": getattr(torch, weights)}
    from transformers import BitsAndBytesConfig
    from transformers.utils import is_bitsandbytes_available

    if not is_bitsandbytes_available():
        raise ConfigError(
            f"{path}: is to be opened in 4 bits, and bitsandbytes is not installed: "
            "pip install bitsandbytes"
        )
    rest = torch.float32 if device.type == "cpu" else torch.bfloat16
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=rest,
    )
    return {"dtype": rest, "device_map": {"": device}, "quantization_config": four_bits}


def _with_adapter(model: "PreTrainedModel", source: ModelSource) -> Any:
    """The model with a PEFT adapter on it, which is checked to fit."""
    from peft import PeftModel, get_peft_model_state_dict, load_peft_weights

    from evals.models.soundness import refuse_not_finite, refuse_unsound_adapter

    with (
        library_errors(f"{source.path}: cannot be loaded as an adapter", _SAVE_AGAIN),
        warnings.catch_warnings(action="ignore"),  # what does not fit is an error here
    ):
        found = load_peft_weights(source.path, device="cpu")
        adapted = PeftModel.from_pretrained(model, source.path)
        # Whether embeddings are among them peft asks a hub; they are no part of the check.
        expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    refuse_unsound_adapter(source.path, expected, found)
    refuse_not_finite(source.path, adapted)
    return adapted


_SAVE_AGAIN = "check the name and the network, or save the folder again"


@contextmanager
def library_errors(what: str, remedy: str) -> Iterator[None]:
    """Say in one line what a library has against a model: they raise whatever they like.

    Raises:
        BackendError: for any error of the block that is not one of ours.
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        raise BackendError(f"{what} ({kind}{first_line(error)}); {remedy}") from error


def _quiet() -> None:
    """Keep transformers' own bars off the terminal: stages show their own progress."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def is_missing_folder(model: str) -> bool:
    """Whether a model's name can only be a folder's, and there is none."""
    return is_path(model) and not Path(model).is_dir()


def _refuse_missing_folder(source: ModelSource) -> None:
    path = Path(source.path)
    if is_missing_folder(source.path):
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
