"""The sizes of a causal language model, read from its config.json."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.memory.mixers import Mixer, chunked, convolution, latent, selective
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
    """Sizes of a causal language model.

    Attributes:
        mlp: numbers per token inside an MLP, of one expert; 0: there is none.
        experts: of such an MLP, of which a token goes through `active`.
        shared: inside the expert that every token goes through.
        dense: the first layers, which have one MLP of `dense_mlp` in place of experts.
        mixers: layers that do not attend in the plain way: how many, and what they do.
        packs: whether nothing in the config stands against packed passes.
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
    shared: int = 0
    dense: int = 0
    dense_mlp: int = 0
    mixers: tuple[tuple[int, Mixer], ...] = ()
    packs: bool = True

    @property
    def attending(self) -> int:
        """Layers with plain attention."""
        return self.layers - sum(count for count, _ in self.mixers)

    @property
    def norms(self) -> int:
        """Of a layer."""
        return 2 if self.mlp else 1

    @property
    def inside(self) -> float:
        """Numbers of a token inside a layer's MLP, of all that it goes through, on average."""
        sparse = self.mlp * self.active + self.shared
        return (self.dense * self.dense_mlp + (self.layers - self.dense) * sparse) / self.layers

    @property
    def attended(self) -> int:
        """Numbers of a token's queries."""
        return self.heads * self.head

    @property
    def linear(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of a layer's linear modules, one expert's MLP in them."""
        if not self.attending:
            return (*self.mixers[0][1].linear, *self._mlp(self.mlp))
        return (*self._attention, *self._mlp(self.mlp))

    @property
    def _attention(self) -> tuple[tuple[int, int], ...]:
        keys = self.kv_heads * self.head
        read = ((self.hidden, self.attended), (self.hidden, keys), (self.hidden, keys))
        return (*read, (self.attended, self.hidden))

    def _mlp(self, inside: int) -> tuple[tuple[int, int], ...]:
        up = ((self.hidden, inside),) * (2 if self.gated else 1)
        return (*up, (inside, self.hidden)) if inside else ()

    @property
    def linear_parameters(self) -> int:
        """In the layers' matrices: what 4 bits are for."""
        attention = self.attending * _size(self._attention)
        mixed = sum(count * mixer.parameters for count, mixer in self.mixers)
        sparse = self.experts * _size(self._mlp(self.mlp)) + _size(self._mlp(self.shared))
        dense = self.dense * _size(self._mlp(self.dense_mlp))
        return attention + mixed + dense + (self.layers - self.dense) * sparse

    @property
    def other_parameters(self) -> int:
        """In embedding, LM head, norms, and what else is no matrix of a linear module."""
        tables = self.vocab * self.hidden * (1 if self.tied else 2)
        sparse = self.layers - self.dense if self.experts > 1 else 0
        mixed = sum(count * mixer.other for count, mixer in self.mixers)
        norms = (self.norms * self.layers + 1) * self.hidden
        return tables + sparse * self.hidden * self.experts + mixed + norms

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.linear_parameters + self.other_parameters

    def weight_bytes(self, weights: str, rest: str | None = None) -> int:
        """Of the whole model in a number format; `rest`: that of what is not in 4 bits."""
        other = WIDTH[rest or ("bfloat16" if weights == "nf4" else weights)]
        return round(self.linear_parameters * WIDTH[weights] + self.other_parameters * other)

    def cache_bytes(self, tokens: int, rows: int, width: float) -> int:
        """Keys and values of so many tokens, and the states of the rows that they are in."""
        attended = 2 * self.attending * self.kv_heads * self.head
        mixed = sum(count * mixer.cached for count, mixer in self.mixers)
        states = sum(count * mixer.state for count, mixer in self.mixers)
        return round(tokens * (attended + mixed) * width + 4 * rows * states)

    def adapter_parameters(self, rank: int, modules: "str | tuple[str, ...]") -> int:
        """Of low-rank adapters on all linear modules, or on some of a layer's."""
        share = 1.0 if isinstance(modules, str) else min(1.0, len(modules) / len(self.linear))
        each = sum((a + b) * rank for a, b in self.linear)
        return round(share * each * self.layers * self.experts)


def _size(matrices: Iterable[tuple[int, int]]) -> int:
    return sum(a * b for a, b in matrices)


@dataclass(frozen=True)
class NoShape:
    """Why nothing is known of a model's memory."""

    reason: str


def shape_of(config: Mapping[str, Any]) -> ModelShape | NoShape:
    """The shape that a config.json describes, or why it cannot be told."""
    text: Mapping[str, Any] = config.get("text_config") or config
    family = str(text.get("model_type", ""))
    hidden = _number(text, "hidden_size", "n_embd", "d_model")
    layers = _number(text, "num_hidden_layers", "n_layer", "num_layers", "n_layers")
    heads = _number(text, "num_attention_heads", "n_head", "n_heads")
    vocab = _number(text, "vocab_size")
    if hidden is None or layers is None or vocab is None:
        return NoShape(f"config.json of {family or 'the model'} does not name its sizes")
    mixers = _mixers(text, family, hidden, layers)
    if isinstance(mixers, NoShape):
        return mixers
    if heads is None and sum(count for count, _ in mixers) < layers:
        return NoShape(f"config.json of {family} does not say how many heads attend")
    heads = heads or 1
    experts = _number(text, *_EXPERTS) or 1
    expert = _number(text, "moe_intermediate_size") if experts > 1 else None
    whole = _number(text, *_INSIDE) or 4 * hidden
    dense = _number(text, "first_k_dense_replace", "num_dense_layers") if expert else None
    return ModelShape(
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=_number(text, "num_key_value_heads") or heads,
        head=_number(text, "head_dim") or hidden // heads,
        mlp=0 if family in _WITHOUT_MLP else expert or whole,
        vocab=vocab,
        positions=_number(text, "max_position_embeddings", "n_positions"),
        tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)))
        or family in _TIED,
        gated=family not in _UNGATED,
        experts=experts,
        active=_number(text, "num_experts_per_tok", "num_experts_per_token") or 1,
        shared=(expert or 0) * (_number(text, "n_shared_experts") or 0),
        dense=min(dense or 0, layers),
        dense_mlp=whole if dense else 0,
        mixers=mixers,
        packs=not any(text.get(name) for name in _AGAINST_PACKING)
        and not any(mixer.state for _, mixer in mixers),
    )


def _mixers(
    text: Mapping[str, Any], family: str, hidden: int, layers: int
) -> tuple[tuple[int, Mixer], ...] | NoShape:
    """Layers that do not attend in the plain way."""
    if family in _SELECTIVE:
        return ((layers, selective(text, hidden)),)
    if family == "mamba2":
        return ((layers, chunked(text, hidden)),)
    kinds = list(text.get("layer_types") or ())
    if family in _CONVOLUTIONS:
        if not kinds:
            attend = set(text.get("full_attn_idxs") or range(layers))
            kinds = ["full_attention" if i in attend else "conv" for i in range(layers)]
        return ((kinds.count("conv"), convolution(text, hidden)),)
    unknown = sorted(set(kinds) - _ATTENTION)
    unknown = unknown or sorted(name for name in text if name.startswith(_OTHER_LAYERS))
    if unknown:
        return NoShape(f"there is no estimate for layers of {family} ({', '.join(unknown[:3])})")
    if text.get("kv_lora_rank"):
        lacking = [name for name in _LATENT if not text.get(name)]
        if lacking:
            return NoShape(f"config.json of {family} does not name {', '.join(lacking)}")
        return ((layers, latent(text, hidden)),)
    return ()


_ATTENTION = frozenset(("full_attention", "sliding_attention", "chunked_attention", "attention"))
_SELECTIVE = ("mamba", "falcon_mamba")
_CONVOLUTIONS = ("lfm2", "lfm2_moe")
_WITHOUT_MLP = (*_SELECTIVE, "mamba2")
_LATENT = ("num_attention_heads", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
# Settings of layers that are none of these.
_OTHER_LAYERS = ("mamba", "ssm_", "conv_", "linear_", "state_size", "lru_", "index_")
# See `stages.training.engines.choose`.
_AGAINST_PACKING = ("final_logit_softcapping", "attn_logit_softcapping", "attention_chunk_size")
_INSIDE = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")


def _number(config: Mapping[str, Any], *names: str) -> int | None:
    found = (config.get(name) for name in names)
    return next((int(v) for v in found if isinstance(v, int | float) and v), None)


def shape_of_model(source: ModelSource) -> ModelShape | NoShape | None:
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
