"""The packed engine against two plain forwards per pair: same numbers, same gradients."""

import random
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
import transformers

from schemas.stage import SilentProgress
from stages.training.checkpoints.adapters import add_lora
from stages.training.config import LoraConfig, TrainingConfig
from stages.training.engines.choose import PackedEngine, PaddedEngine, open_engine, why_not_packed
from stages.training.engines.fused_head import FusedHead, Logits
from stages.training.losses.config import SigmoidLoss
from stages.training.objectives.preference import PairExample, PreferenceObjective, pair_logps

SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
WINDOWED = {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}
SETTINGS: dict[str, dict[str, Any]] = {
    "Llama": {"tie_word_embeddings": True},
    "Qwen2": {},
    "Qwen3": {"use_sliding_window": True, "max_window_layers": 1, **WINDOWED},
    "Mistral": {"sliding_window": 5},
    "Gemma2": {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0, **WINDOWED},
    "Gemma3": {"tie_word_embeddings": True, "query_pre_attn_scalar": 8, **WINDOWED},
}
PACKED = [name for name in SETTINGS if name != "Gemma2"]


def tiny(name: str) -> Any:
    config_name = f"{name}TextConfig" if name == "Gemma3" else f"{name}Config"
    config = getattr(transformers, config_name)(**{**SIZES, **SETTINGS[name]})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    model.set_attn_implementation("eager" if name == "Gemma2" else "sdpa")
    return model


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    torch.set_num_threads(1)
    return {name: tiny(name) for name in SETTINGS}


@pytest.fixture(scope="module")
def pairs() -> list[PairExample]:
    """Lengths from 1 to 24, the shortest prompt and completions among them."""
    numbers = random.Random(2)

    def tokens(count: int) -> list[int]:
        return [numbers.randrange(1, 61) for _ in range(count)]

    lengths = [(1, 1, 1), (1, 3, 1), (24, 1, 5), (7, 9, 2), (2, 20, 24), (12, 4, 4), (3, 1, 2)]
    return [
        PairExample(f"pair-{i}", tokens(p), tokens(c), tokens(r), -float(c), -float(r))
        for i, (p, c, r) in enumerate(lengths)
    ]


def naive(model: Any, pair: PairExample, completion: Sequence[int]) -> torch.Tensor:
    ids = [*pair.prompt_ids, *completion]
    table = model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
    start = len(pair.prompt_ids)
    return torch.stack([table[start - 1 + k, t] for k, t in enumerate(completion)]).sum()


def naive_gradients(model: Any, pairs: Sequence[PairExample], beta: float) -> Any:
    """The DPO loss as it is defined, one forward per completion, and its gradients by name."""
    model = deepcopy(model)
    losses = []
    for pair in pairs:
        chosen = naive(model, pair, pair.chosen_ids) - pair.reference_chosen
        rejected = naive(model, pair, pair.rejected_ids) - pair.reference_rejected
        losses.append(torch.log1p(torch.exp(-beta * (chosen - rejected))))
    loss = torch.stack(losses).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), gradients(model)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def packed_gradients(
    model: Any, pairs: Sequence[PairExample], beta: float, budget: int, size: int = 8
) -> Any:
    objective = PreferenceObjective(SigmoidLoss(beta=beta), PackedEngine("float32", budget))
    model = deepcopy(model)
    groups = objective.micro_batches(pairs, size)
    assert sorted(p.key for g in groups for p in g) == sorted(p.key for p in pairs)
    parts = [objective.accumulate(model, group, 1 / len(pairs))["loss"] for group in groups]
    return torch.cat(parts).mean(), gradients(model)


def assert_close(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert torch.allclose(ours[name], gradient, atol=1e-4, rtol=1e-4), name


@pytest.mark.parametrize("name", SETTINGS)
def test_log_probabilities_equal_two_forwards(
    name: str, models: dict[str, Any], pairs: list[PairExample]
) -> None:
    model = models[name]
    engine = open_engine(model, TrainingConfig(), SilentProgress())
    assert isinstance(engine, PackedEngine) == (name in PACKED)
    chosen, rejected = pair_logps(model, engine, pairs)
    with torch.no_grad():
        for i, pair in enumerate(pairs):
            for ours, ids in ((chosen[i], pair.chosen_ids), (rejected[i], pair.rejected_ids)):
                assert float(ours) == pytest.approx(float(naive(model, pair, ids)), abs=1e-4)


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("budget", [1, 40, 1000])
def test_gradients_equal_two_forwards_at_every_budget(
    name: str, budget: int, models: dict[str, Any], pairs: list[PairExample]
) -> None:
    loss, expected = naive_gradients(models[name], pairs, 0.3)
    ours, computed = packed_gradients(models[name], pairs, 0.3, budget)
    assert float(ours) == pytest.approx(float(loss), abs=1e-4)
    assert_close(computed, expected)


def test_one_by_eight_is_eight_by_one(models: dict[str, Any], pairs: list[PairExample]) -> None:
    together = packed_gradients(models["Llama"], pairs, 0.3, 1000)[1]
    assert_close(packed_gradients(models["Llama"], pairs, 0.3, 1000, size=1)[1], together)


def test_tiles_of_the_head_do_not_show(
    models: dict[str, Any], pairs: list[PairExample], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = packed_gradients(models["Qwen2"], pairs, 0.3, 1000)[1]
    monkeypatch.setattr(FusedHead, "tile_tokens", 6)
    assert_close(packed_gradients(models["Qwen2"], pairs, 0.3, 1000)[1], together)


@pytest.mark.parametrize(("tile", "rows"), [(100, [44]), (22, [44]), (21, [21, 21, 2] * 2)])
def test_logits_are_made_once_up_to_two_tiles(
    tile: int,
    rows: list[int],
    models: dict[str, Any],
    pairs: list[PairExample],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []
    plain = FusedHead.logits

    def counted(head: FusedHead, hidden: torch.Tensor, targets: torch.Tensor) -> Logits:
        made.append(len(hidden))
        return plain(head, hidden, targets)

    monkeypatch.setattr(FusedHead, "logits", counted)
    monkeypatch.setattr(FusedHead, "tile_tokens", tile)
    [longest] = [pair for pair in pairs if len(pair.chosen_ids) + len(pair.rejected_ids) == 44]
    packed_gradients(models["Llama"], [longest], 0.3, 1000)
    assert made == rows


@pytest.mark.parametrize("name", ["Llama", "Mistral", "Gemma3"])
@pytest.mark.parametrize("packing", [True, False])
def test_gradient_checkpointing_runs_layers_again_for_the_same_gradients(
    name: str, packing: bool, models: dict[str, Any], pairs: list[PairExample]
) -> None:
    model, plain = deepcopy(models[name]), packed_gradients(models[name], pairs, 0.3, 1000)[1]
    config = TrainingConfig(gradient_checkpointing=True, packing=packing)
    engine = open_engine(model, config, SilentProgress())
    assert isinstance(engine, PackedEngine) == packing
    runs: list[Any] = []
    model.get_decoder().layers[0].mlp.register_forward_pre_hook(lambda *_: runs.append(1))
    objective = PreferenceObjective(SigmoidLoss(beta=0.3), engine)
    objective.accumulate(model, pairs, 1 / len(pairs))
    assert len(runs) == 2
    assert_close(gradients(model), plain)
    assert not model.training
    assert not any(module.training for module in model.modules())


def test_gradient_checkpointing_reaches_an_adapter(
    models: dict[str, Any], pairs: list[PairExample]
) -> None:
    def trained(recompute: bool) -> Any:
        model = add_lora(deepcopy(models["Qwen2"]), LoraConfig(rank=4), seed=0)
        engine = PackedEngine("float32", recompute=recompute)
        PreferenceObjective(SigmoidLoss(), engine).accumulate(model, pairs, 1.0)
        return gradients(model)

    assert trained(recompute=True)
    assert_close(trained(recompute=True), trained(recompute=False))


def test_lora_moves_the_adapter_only(models: dict[str, Any], pairs: list[PairExample]) -> None:
    model = add_lora(deepcopy(models["Llama"]), LoraConfig(rank=4), seed=0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    assert why_not_packed(model) is None
    _, expected = naive_gradients(model, pairs, 0.3)
    _, computed = packed_gradients(model, pairs, 0.3, 1000)
    assert all("lora" in name for name in computed)
    assert_close(computed, expected)


def test_tied_and_padded_embeddings_add_up_over_micro_batches(
    models: dict[str, Any], pairs: list[PairExample]
) -> None:
    """The embedding's rows are added in place: twice the pass is twice the gradient."""
    model = deepcopy(models["Llama"])
    objective = PreferenceObjective(SigmoidLoss(), PackedEngine())
    objective.accumulate(model, pairs, 1.0)
    once = {name: gradient.clone() for name, gradient in gradients(model).items()}
    objective.accumulate(model, pairs, 1.0)
    assert_close(gradients(model), {name: 2 * gradient for name, gradient in once.items()})


@pytest.mark.parametrize("name", PACKED)
def test_bfloat16_agrees_with_plain_autocast(
    name: str, models: dict[str, Any], pairs: list[PairExample]
) -> None:
    exact = torch.stack(pair_logps(models[name], PaddedEngine(), pairs))
    plain, packed = (
        torch.stack(pair_logps(models[name], engine, pairs))
        for engine in (PaddedEngine("bfloat16"), PackedEngine("bfloat16"))
    )
    off, usual = (float((logps - exact).abs().mean()) for logps in (packed, plain))
    assert off < 1.2 * usual + 1e-2


def test_a_model_that_cannot_be_packed_says_why(models: dict[str, Any]) -> None:
    progress: Any = SilentProgress()
    said: list[str] = []
    progress.note = said.append
    engine = open_engine(models["Gemma2"], TrainingConfig(), progress)
    assert isinstance(engine, PaddedEngine)
    assert said == [
        "Gemma2ForCausalLM is trained padded, not packed: its config sets final_logit_softcapping"
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: setattr(m.config, "attention_chunk_size", 4), "attention_chunk_size"),
        (lambda m: setattr(m, "lm_head", torch.nn.Sequential(m.lm_head)), "not a plain linear"),
        (lambda m: _scale_logits(m), "would differ by"),
    ],
)
def test_what_nobody_thought_of_is_caught(
    change: Callable[[Any], None], reason: str, models: dict[str, Any]
) -> None:
    model = deepcopy(models["Qwen2"])
    change(model)
    assert reason in str(why_not_packed(model))


def _scale_logits(model: Any) -> None:
    model.lm_head.register_forward_hook(lambda _module, _inputs, logits: logits * 1.5)
