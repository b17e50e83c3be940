"""Reward models: sequence classifiers with one label, opened and read in padded batches."""

from collections.abc import Sequence

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging

from evals.memory.allocator import use_large_pages
from evals.models.checkpoints import Dtype, ModelSource, library_errors
from evals.models.soundness import refuse_unsound
from schemas.errors import ConfigError


def load_reward_model(
    source: ModelSource, device: torch.device, dtype: Dtype = "float32"
) -> PreTrainedModel:
    """Open a sequence classifier with one label, in evaluation mode.

    Raises:
        MissingInputError: no such folder.
        BackendError: the folder or the hub does not give a model.
        ConfigError: the model is no reward model: more labels than one, or no trained head.
    """
    use_large_pages()
    revision = source.commit or source.revision  # says what is missing
    logging.disable_progress_bar()
    loading = logging.get_verbosity()
    logging.set_verbosity_error()  # what is missing is an error here, not a warning
    try:
        with library_errors(
            f"{source.path}: cannot be loaded as a sequence classifier",
            "check the name and the network",
        ):
            model, found = AutoModelForSequenceClassification.from_pretrained(
                source.path,
                revision=revision,
                dtype=getattr(torch, dtype),
                trust_remote_code=source.trust_remote_code,
                output_loading_info=True,
            )
    finally:
        logging.set_verbosity(loading)
    inner = f"{model.base_model_prefix}."
    head = sorted(key for key in found["missing_keys"] if not key.startswith(inner))
    if head:
        raise ConfigError(
            f"{source.path}: no reward model: it has no trained {head[0]}"
            "; use kind preference_model or llm for a language model"
        )
    refuse_unsound(source.path, model, found)
    if model.config.num_labels != 1:
        raise ConfigError(
            f"{source.path}: has {model.config.num_labels} labels, and a reward model has one"
        )
    loaded: PreTrainedModel = model.to(device).eval()
    return loaded


def rewards(
    model: PreTrainedModel, rows: Sequence[Sequence[int]], pad_id: int | None
) -> list[float]:
    """The reward of each row of token ids, one padded batch."""
    with torch.inference_mode():
        found: list[float] = padded_rewards(model, rows, pad_id).double().tolist()
    return found


def padded_rewards(
    model: PreTrainedModel, rows: Sequence[Sequence[int]], pad_id: int | None
) -> torch.Tensor:
    """The same as a tensor (n,), differentiable.

    A decoder is read at its last token that is not padding, and finds it by its id. So where a row
    ends with `pad_id`, as where that is the end token too, an id that no row holds takes its place.
    """
    if pad_id is None or any(row[-1] == pad_id for row in rows):
        used = {i for row in rows for i in row}
        pad_id = next(i for i in range(len(used) + 1) if i not in used)
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    model.config.get_text_config().pad_token_id = pad_id
    logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
    column: torch.Tensor = logits[:, 0]
    return column
