"""LoRA through peft: put on before training, folded in where plain weights are wanted."""

from typing import Any

import torch
from transformers import PreTrainedModel

from schemas.errors import ConfigError
from stages.training.config import LoraConfig


def add_lora(model: PreTrainedModel, config: LoraConfig, seed: int) -> Any:
    """A PEFT model whose adapter alone is trainable; with it switched off it is `model`.

    Raises:
        ConfigError: the model has none of the target modules.
    """
    import peft

    modules = config.target_modules
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return peft.get_peft_model(model, settings)
        except ValueError as error:
            raise ConfigError(f"training.lora.target_modules: {error}") from error


def fold_adapter(model: Any) -> Any:
    """The model with a PEFT adapter added into its weights; a plain model as it is.

    All weights can be trained afterwards: peft freezes what it adapts.
    """
    if not hasattr(model, "merge_and_unload"):
        return model
    return model.merge_and_unload().requires_grad_(True)
