"""Models whose frozen weights are in 4 bits (QLoRA), by bitsandbytes."""

from typing import Any

import torch
from torch import nn

from evals.models.checkpoints import WeightFormat


def weight_format(model: Any) -> WeightFormat:
    """The number format that a model's weights were loaded in; of an adapted model, its base's."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if getattr(base, "is_loaded_in_4bit", False):
        return "nf4"
    return "bfloat16" if base.dtype == torch.bfloat16 else "float32"


def dequantised(model: Any) -> Any:
    """The same model with the 4-bit weights written out in float32, so that it can be changed."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, Linear4bit)]
    for name, layer in layers:
        plain = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        plain.weight = nn.Parameter(weight.float())
        plain.bias = layer.bias
        model.set_submodule(name, plain)
    model.hf_quantizer.remove_quantization_config(model)
    return model.float()
