"""Norms and MLPs that keep less: the numbers of the plain ones, and fewer saved bytes."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from transformers import GemmaConfig, GemmaForCausalLM, LlamaConfig, LlamaForCausalLM

from stages.training.checkpoints.adapters import trainable_start
from stages.training.config import LoraConfig
from stages.training.engines import lean_layers
from stages.training.engines.lean_layers import LeanLayers

SHAPE: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 12,
    "pad_token_id": 0,
}


def llama(**settings: Any) -> Any:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{**SHAPE, **settings})).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.2)
    return model


def passed(model: Any, lean: bool) -> list[torch.Tensor]:
    """Logits and gradients of a pass over 70 tokens."""
    ids = torch.arange(140).view(2, 70) % 50
    model.zero_grad()
    with LeanLayers.of(model).in_force() if lean else nullcontext():
        logits = model(ids).logits
        logits.square().mean().backward()
    return [logits.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("lora", [False, True])
def test_logits_and_gradients_are_those_of_the_plain_layers(lora: bool) -> None:
    model = llama()
    if lora:
        model = trainable_start(model, LoraConfig(rank=3), "base", 0)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, 0.0, 0.02)
    layers = LeanLayers.of(model)
    assert (len(layers.norms), len(layers.mlps)) == (5, 2)
    plain, lean = passed(model, False), passed(model, True)
    assert len(plain) == len(lean) > (8 if lora else 12)
    exact = passed(model.double(), False)
    for right, near, mine in zip(exact, plain, lean, strict=True):
        rounding = float((near - right).norm()) + 1e-6 * float(right.norm())
        assert float((mine - right).norm()) < 5 * rounding


def test_plain_forwards_are_back_afterwards() -> None:
    model = llama()
    with LeanLayers.of(model).in_force():
        assert "forward" in vars(model.model.norm)
    assert not any("forward" in vars(module) for module in model.modules())


def test_half_of_what_a_layer_saves_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    kept: dict[int, int] = {}

    def count(packed: Any) -> Any:
        if isinstance(packed, torch.Tensor) and not isinstance(packed, nn.Parameter):
            kept[packed.untyped_storage().data_ptr()] = packed.untyped_storage().nbytes()
        return packed

    with torch.autograd.graph.saved_tensors_hooks(count, lambda packed: packed):
        plain = model.model.layers[0].mlp(torch.ones(1, 70, 24, requires_grad=True))
    before, pack = sum(kept.values()), lean_layers._MadeAgain.pack
    monkeypatch.setattr(lean_layers._MadeAgain, "pack", lambda self, t: count(pack(self, t)))
    kept.clear()
    with LeanLayers.of(model).in_force():
        lean = model.model.layers[0].mlp(torch.ones(1, 70, 24, requires_grad=True))
        assert torch.allclose(plain, lean, atol=1e-6)
        # Gate and up stay, which the recipe holds; not the activation, nor what goes down.
        assert sum(kept.values()) + 2 * 70 * 40 * 4 < 0.7 * before


def test_other_formulas_are_left_alone() -> None:
    torch.manual_seed(0)
    gemma = GemmaForCausalLM(GemmaConfig(**SHAPE)).eval()  # a norm times 1 + weight, a GELU
    assert LeanLayers.of(gemma) == LeanLayers([], [])
    gelu = llama(hidden_act="gelu")
    assert len(LeanLayers.of(gelu).norms) == 5
    assert not LeanLayers.of(gelu).mlps
    low = llama().to(torch.bfloat16)
    assert LeanLayers.of(low) == LeanLayers([], [])
