"""The estimate of a training's memory, against what torch keeps."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    Lfm2Config,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
    MixtralConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from evals.memory.shape import ModelShape, NoShape, shape_of
from stages.training.checkpoints.adapters import trainable_start
from stages.training.config import LoraConfig, TrainingConfig
from stages.training.engines import lean_layers
from stages.training.engines.packed import PackedEngine
from stages.training.engines.padded import PaddedEngine
from stages.training.losses.config import SigmoidLoss
from stages.training.memory import passes
from stages.training.memory.bill import Item, longest_item, training_bill
from stages.training.memory.sizes import pack_budget
from stages.training.objectives.preference import PairExample, PreferenceObjective
from tests.benchmarks.bench_defaults import best_default
from tests.benchmarks.bench_memory import RESULTS
from tests.benchmarks.memory_cases import CASES, MODELS, config_of

SIZES: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def shaped(config: PreTrainedConfig) -> ModelShape:
    found = shape_of(config.to_dict())
    assert isinstance(found, ModelShape)
    return found


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SIZES),
        LlamaConfig(**SIZES, tie_word_embeddings=True, head_dim=32),
        Qwen3Config(**SIZES, head_dim=16),
        MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2),
        GPT2Config(vocab_size=512, n_embd=64, n_layer=3, n_head=4, n_positions=128),
    ],
    ids=lambda config: str(config.model_type),
)
def test_parameters_are_counted_from_a_config(config: PreTrainedConfig) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    is_gpt2 = config.model_type == "gpt2"
    there = sum(p.numel() for p in model.parameters())
    assert shaped(config).parameters == pytest.approx(there, rel=0.15 if is_gpt2 else 0.01)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_of_other_layers_are_counted_too(name: str) -> None:
    config = config_of(name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    there = sum(p.numel() for p in model.parameters())
    assert shaped(config).parameters == pytest.approx(there, rel=0.01)


@pytest.mark.parametrize(
    ("family", "said"),
    [("jamba", "mamba"), ("qwen3_next", "linear_attention"), ("recurrent_gemma", "lru_width")],
)
def test_layers_without_an_estimate_are_named(family: str, said: str) -> None:
    found = shape_of(AutoConfig.for_model(family).to_dict())
    assert isinstance(found, NoShape)
    assert family in found.reason
    assert said in found.reason


def measured_as_it_is() -> dict[str, Any]:
    rows = json.loads(RESULTS.read_text())
    return {name: row for name, row in rows.items() if "before" not in row}


def test_estimates_are_within_15_percent_of_what_was_measured() -> None:
    rows = measured_as_it_is()
    ratios = {name: CASES[name].bill().total / row["measured"] for name, row in rows.items()}
    apart = {name: round(ratio, 2) for name, ratio in ratios.items() if not 0.85 <= ratio <= 1.15}
    assert apart == {}


def test_the_estimates_that_are_shown_are_those_of_today() -> None:
    rows = measured_as_it_is()
    assert {name: row["estimated"] for name, row in rows.items()} == {
        name: CASES[name].bill().total for name in rows
    }


OTHERS = [
    MambaConfig(vocab_size=64, hidden_size=64, num_hidden_layers=2, time_step_rank=4),
    Mamba2Config(
        vocab_size=64,
        hidden_size=64,
        num_hidden_layers=2,
        num_heads=4,
        head_dim=32,
        n_groups=1,
        state_size=48,
        chunk_size=16,
    ),
    Lfm2Config(**SIZES | {"layer_types": ["conv"] * 3}, block_auto_adjust_ff_dim=False),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("config", OTHERS, ids=lambda config: str(config.model_type))
def test_layers_that_do_not_attend_keep_what_is_said(config: PreTrainedConfig) -> None:
    model = AutoModelForCausalLM.from_config(config).eval()
    shape = shaped(config)
    assert not shape.packs
    training = TrainingConfig(batch_size=1)
    length = 32 if config.model_type != "mamba2" else 39  # which is no multiple of its chunks
    pair = PairExample("pair", [1] * 4, [2] * (length - 4), [3] * (length - 4))
    with kept_for_backward(model) as kept:
        PreferenceObjective(SigmoidLoss(), PaddedEngine()).accumulate(model, [pair], 1.0)
    parts = training_bill(shape, training, Item(4, (length - 4,) * 2), "cpu").parts
    head = 2 * (length - 4) * shape.vocab * 4 * 2
    assert parts["activations"] + head == pytest.approx(sum(kept.values()), rel=0.1)


@contextmanager
def kept_for_backward(model: Any) -> Iterator[dict[int, int]]:
    """Bytes of every storage, beside the weights', that autograd keeps."""
    known = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}
    alive = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            seen[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)  # so that no address is used twice
        return tensor

    made_again = lean_layers._MadeAgain
    inner, remember = made_again.pack, made_again.remember

    def pack_within(self: Any, tensor: Tensor) -> Any:  # the innermost hooks alone are asked
        packed = inner(self, tensor)
        return pack(packed) if isinstance(packed, Tensor) else packed

    def remember_too(self: Any, tensor: Tensor, recipe: Any) -> None:
        for held in vars(recipe).values():
            if isinstance(held, Tensor):
                pack(held)
        remember(self, tensor, recipe)

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setattr(made_again, "pack", pack_within)
        patched.setattr(made_again, "remember", remember_too)
        yield seen


ITEM = Item(8, (250, 250))
LOW = [(a, b) for a in ("float32", "bfloat16") for b in ("float32", "bfloat16")]


WIDER = LlamaConfig(**{**SIZES, "hidden_size": 128, "intermediate_size": 384})


def wider(training: TrainingConfig) -> Any:
    loaded = AutoModelForCausalLM.from_config(WIDER).to(getattr(torch, training.weights))
    return trainable_start(loaded.eval(), training.lora, "start", 0)


def kept_and_said(training: TrainingConfig) -> tuple[int, int]:
    """Bytes that autograd keeps of a pass over one pair, and what the estimate says."""
    model = wider(training)
    engine = PackedEngine(training.dtype, recompute=training.gradient_checkpointing)
    pair = PairExample("pair", [1] * 8, [2] * 250, [3] * 250)
    with kept_for_backward(model) as kept:
        PreferenceObjective(SigmoidLoss(), engine).accumulate(model, [pair], 1.0)
    parts = training_bill(shaped(WIDER), training, ITEM, "cpu").parts
    return sum(kept.values()), parts["activations"] + parts.get("cast weights", 0)


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=8)], ids=["full", "lora"])
@pytest.mark.parametrize(("dtype", "weights"), LOW)
def test_activations_are_what_autograd_keeps(
    lora: LoraConfig | None, dtype: Any, weights: Any
) -> None:
    kept, said = kept_and_said(
        TrainingConfig(lora=lora, dtype=dtype, weights=weights, batch_size=1)
    )
    assert said == pytest.approx(kept, rel=0.07)


def test_checkpointing_keeps_a_stream_a_layer() -> None:
    """What is kept within a layer that is run again is out of sight here: one layer's of it."""
    config = TrainingConfig(batch_size=1, gradient_checkpointing=True, weights="float32")
    kept, said = kept_and_said(config)
    layer = ITEM.tree * next(passes._layers(shaped(WIDER), config, "cpu", 512, lean=False)).kept
    assert said - layer == pytest.approx(kept, rel=0.2)


def test_a_pass_has_the_longest_item_or_the_budget() -> None:
    shape = shaped(LlamaConfig(**SIZES))
    long = TrainingConfig(max_length=2000, batch_size=1)
    assert longest_item(long, shape, completions=2).tree == 1 + 2 * 1999
    short = TrainingConfig(max_length=100, batch_size=64)
    item = longest_item(short, shape, completions=2)
    assert "1,024 tokens a pass" in training_bill(shape, short, item, "cpu").about


def test_the_pack_of_a_cpu_is_what_was_measured() -> None:
    shapes = json.loads((RESULTS.parent / "defaults.json").read_text())["shapes"].values()
    packs = [best_default(shape) for shape in shapes]
    assert len(packs) == 2
    assert pack_budget(TrainingConfig(), "cpu") == max(packs)


def test_what_is_cheaper_is_named_and_less() -> None:
    shape = shaped(LlamaConfig(**SIZES))
    training = TrainingConfig(max_length=500)
    found = training_bill(shape, training, longest_item(training, shape, 2), "cpu")
    assert "gradient_checkpointing = true" in found.cheaper
    assert all(size < found.total for size in found.cheaper.values())


def test_cards_share_weights_gradients_and_states() -> None:
    shape = shaped(LlamaConfig(**SIZES))
    training = TrainingConfig(max_length=64, batch_size=64)
    item = longest_item(training, shape, 2)
    one, four = (training_bill(shape, training, item, "cuda", n).parts for n in (1, 4))
    for name in ("weights", "gradients", "optimizer"):
        assert four[name] == pytest.approx(one[name] / 4, abs=1)
