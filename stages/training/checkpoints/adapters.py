"""LoRA through peft: put on or gone on with, and folded in where plain weights are wanted."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peft
import torch
from transformers import PreTrainedModel

from schemas.errors import ConfigError
from stages.training.checkpoints.four_bits import dequantised, weight_format
from stages.training.config import LoraConfig


def is_adapted(model: Any) -> bool:
    """Whether the model is a PEFT adapter on its base."""
    return hasattr(model, "peft_config") and hasattr(model, "merge_and_unload")


def add_lora(model: PreTrainedModel, config: LoraConfig, seed: int) -> Any:
    """A PEFT model whose adapter alone is trainable; with it switched off it is `model`.

    Raises:
        ConfigError: the model has none of the target modules.
    """
    modules = config.target_modules
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(), _ties_are_known():
        torch.manual_seed(seed)
        try:
            return peft.get_peft_model(model, settings)
        except ValueError as error:
            raise ConfigError(f"training.lora.target_modules: {error}") from error


def trainable_start(model: Any, lora: LoraConfig | None, where: str, seed: int) -> Any:
    """The model to train, made of a start that may be an adapter on its base.

    Without `lora` an adapter is folded in and all weights are trained. With it, an adapter is gone
    on with, or folded in under a new one, as `lora.start` says.

    Raises:
        ConfigError: the adapter of the start has another rank; the model has no target module.
    """
    if lora is None:
        return fold_adapter(model)
    if is_adapted(model) and lora.start == "continue":
        return _continued(model, lora, where)
    if is_adapted(model) and weight_format(model) == "nf4":
        raise ConfigError(
            f"{where}: an adapter cannot be merged into weights that stay in 4 bits; set "
            'training.lora.start to "continue", or export the adapter merged and start from that'
        )
    return add_lora(fold_adapter(model), lora, seed)


def _continued(model: Any, lora: LoraConfig, where: str) -> Any:
    settings = model.peft_config[model.active_adapter]
    rank = getattr(settings, "r", None)
    if rank != lora.rank:
        raise ConfigError(
            f"{where}: the adapter that training goes on with has rank {rank}, and "
            f"training.lora.rank is {lora.rank}; set it to {rank}, or training.lora.start to "
            '"new" to merge the adapter and put a new one on'
        )
    model.set_adapter(model.active_adapter)
    return model


def fold_adapter(model: Any) -> Any:
    """The model with a PEFT adapter added into its weights; a plain model as it is.

    All weights can be trained afterwards: peft freezes what it adapts. Where embedding and LM head
    are one weight and the adapter changes either, they become two.
    """
    if not is_adapted(model):
        return model
    if changes_a_tie(model):
        untie(model.get_base_model())
    if weight_format(model) == "nf4":
        model = _on_full_weights(model)
    with _ties_are_known():
        merged = model.merge_and_unload()
    plain = merged.requires_grad_(True)
    _declare_ties(plain)
    return plain


def _on_full_weights(model: Any) -> Any:
    """The adapter on its 4-bit base written out: what was trained, to the last digit."""
    settings = model.peft_config[model.active_adapter]
    with no_hub_asked(model):
        weights = peft.get_peft_model_state_dict(model)
    plain = peft.get_peft_model(dequantised(model.unload()), settings)
    peft.set_peft_model_state_dict(plain, weights)
    return plain


@contextmanager
def no_hub_asked(model: Any) -> Iterator[None]:
    """While peft takes an adapter's weights out.

    It would compare the vocabulary, which training leaves as it is, with that of whatever the
    branch of the base is at by now on its hub.
    """
    settings = model.peft_config[model.active_adapter]
    named, settings.base_model_name_or_path = settings.base_model_name_or_path, None
    try:
        yield
    finally:
        settings.base_model_name_or_path = named


def changes_a_tie(model: Any) -> bool:
    """Whether an adapter changes embedding or LM head of a model where the two are one weight."""
    if not is_adapted(model):
        return False
    base = model.get_base_model()
    layers = [base.get_input_embeddings(), base.get_output_embeddings()]
    plain = [_inner(layer) for layer in layers]
    if any(not hasattr(layer, "weight") for layer in plain):
        return False
    adapted = any(outer is not inner for outer, inner in zip(layers, plain, strict=True))
    return adapted and plain[0].weight is plain[1].weight


def untie(base: Any) -> None:
    """Give the LM head a weight of its own."""
    head = _inner(base.get_output_embeddings())
    head.weight = torch.nn.Parameter(head.weight.detach().clone())


def _inner(layer: Any) -> Any:
    """What an adapter has wrapped: a layer, or a module that is trained whole."""
    return getattr(layer, "base_layer", getattr(layer, "original_module", layer))


@contextmanager
def _ties_are_known() -> Iterator[None]:
    """Without peft's warning of shared weights: they are untied before anything is merged."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings")
        yield


def _declare_ties(model: Any) -> None:
    """Let the config say whether embedding and LM head are one weight."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if embedding is None or head is None:
        return
    tied = embedding.weight is head.weight
    for config in (model.config, model.config.get_text_config()):
        if getattr(config, "tie_word_embeddings", tied) and not tied:
            config.tie_word_embeddings = False
