"""The sizes of a causal language model, read from its config.json."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.models.checkpoints import ModelSource

# Families whose MLP has two matrices; all others gate, with three.
_UNGATED = frozenset(
    (
        *("bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj"),
        *("mpt", "nemotron", "opt", "phi", "starcoder2", "xglm"),
    )
)
# Families whose LM head is the embedding though their config need not say so.
_TIED = frozenset(
    ("bloom", "cohere", "cohere2", "falcon", "gemma", "gemma2", "gemma3_text", "gpt2", "opt")
)
# Bytes of a number; a 4-bit number has a share in the scales of its block, which are in 8 bits.
WIDTH = {"float32": 4.0, "bfloat16": 2.0, "nf4": 0.5 + 1 / 64 + 4 / (64 * 256)}


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a transformer that attends everywhere.

    `mlp`: numbers per token inside an MLP, of all experts that a token goes through; `experts` of
    such an MLP are there, of which it goes through `active`.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    mlp: int
    vocab: int
    positions: int | None
    tied: bool = True
    gated: bool = True
    experts: int = 1
    active: int = 1

    @property
    def attended(self) -> int:
        """Numbers of a token's queries."""
        return self.heads * self.head

    @property
    def linear(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of a layer's linear modules, one expert's MLP in them."""
        keys = self.kv_heads * self.head
        attention = [(self.hidden, self.attended), (self.hidden, keys), (self.hidden, keys)]
        up = [(self.hidden, self.mlp)] * (2 if self.gated else 1)
        return (*attention, (self.attended, self.hidden), *up, (self.mlp, self.hidden))

    @property
    def linear_parameters(self) -> int:
        """In the layers' matrices: what 4 bits are for."""
        at = len(self.linear) - (3 if self.gated else 2)
        attention, mlp = (
            sum(a * b for a, b in part) for part in (self.linear[:at], self.linear[at:])
        )
        return self.layers * (attention + self.experts * mlp)

    @property
    def other_parameters(self) -> int:
        """In embedding, LM head and norms."""
        tables = self.vocab * self.hidden * (1 if self.tied else 2)
        routers = self.layers * self.hidden * self.experts if self.experts > 1 else 0
        return tables + routers + (2 * self.layers + 1) * self.hidden

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.linear_parameters + self.other_parameters

    def weight_bytes(self, weights: str, rest: str | None = None) -> int:
        """Of the whole model in a number format; `rest`: that of what is not in 4 bits."""
        other = WIDTH[rest or ("bfloat16" if weights == "nf4" else weights)]
        return round(self.linear_parameters * WIDTH[weights] + self.other_parameters * other)

    def cache_bytes(self, tokens: int, width: float) -> int:
        """Keys and values of so many tokens."""
        return round(2 * tokens * self.layers * self.kv_heads * self.head * width)

    def adapter_parameters(self, rank: int, modules: "str | tuple[str, ...]") -> int:
        """Of low-rank adapters on all linear modules, or on some of a layer's."""
        share = 1.0 if isinstance(modules, str) else min(1.0, len(modules) / len(self.linear))
        each = sum((a + b) * rank for a, b in self.linear)
        return round(share * each * self.layers * self.experts)


def shape_of(config: Mapping[str, Any]) -> ModelShape | None:
    """The shape that a config.json describes; None where layers do not attend, or sizes lack."""
    text: Mapping[str, Any] = config.get("text_config") or config
    family = str(text.get("model_type", ""))
    kinds = set(text.get("layer_types") or ())
    hidden = _number(text, "hidden_size", "n_embd", "d_model")
    layers = _number(text, "num_hidden_layers", "n_layer", "num_layers", "n_layers")
    heads = _number(text, "num_attention_heads", "n_head", "n_heads")
    vocab = _number(text, "vocab_size")
    if kinds - _ATTENTION or any(name.startswith(_OTHER_LAYERS) for name in text):
        return None
    if hidden is None or layers is None or heads is None or vocab is None:
        return None
    experts = _number(text, "num_local_experts", "num_experts", "n_routed_experts") or 1
    inside = _number(text, *(("moe_intermediate_size",) if experts > 1 else ()), *_INSIDE)
    return ModelShape(
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=_number(text, "num_key_value_heads") or heads,
        head=_number(text, "head_dim") or hidden // heads,
        mlp=inside or 4 * hidden,
        vocab=vocab,
        positions=_number(text, "max_position_embeddings", "n_positions"),
        tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)))
        or family in _TIED,
        gated=family not in _UNGATED,
        experts=experts,
        active=_number(text, "num_experts_per_tok", "num_experts_per_token") or 1,
    )


_ATTENTION = frozenset(("full_attention", "sliding_attention", "chunked_attention", "attention"))
# Settings of layers that hold a state in place of keys and values, or hold these compressed.
_OTHER_LAYERS = ("mamba", "ssm_", "conv_", "linear_", "kv_lora_rank", "state_size", "lru_")
_INSIDE = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")


def _number(config: Mapping[str, Any], *names: str) -> int | None:
    found = (config.get(name) for name in names)
    return next((int(v) for v in found if isinstance(v, int | float) and v), None)


def shape_of_model(source: ModelSource) -> ModelShape | None:
    """The shape of a model that is on this machine, an adapter's base's; None where it is not."""
    try:
        path = _config_of(source.weights)
        return shape_of(json.loads(path.read_text(encoding="utf-8"))) if path else None
    except (OSError, ValueError):
        return None


def _config_of(source: ModelSource) -> Path | None:
    if Path(source.path).is_dir():
        return Path(source.path) / "config.json"
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(source.path, "config.json", revision=source.revision)
    return Path(cached) if isinstance(cached, str) else None
