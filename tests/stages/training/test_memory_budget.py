"""`max_activation_gb`: passes that fit, the same gradients, and what cannot be made to fit."""

import random
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from evals.memory.shape import ModelShape, shape_of
from schemas.errors import ConfigError
from schemas.stage import SilentProgress, StageContext
from stages.training.checkpoints.adapters import trainable_start
from stages.training.config import LoraConfig, TrainingConfig
from stages.training.engines.choose import PackedEngine, open_engine
from stages.training.engines.gradient_checkpointing import layers_to_rerun
from stages.training.loop import TrainingRun, train
from stages.training.losses.config import SigmoidLoss
from stages.training.memory.bill import Item, training_bill
from stages.training.memory.budget import PassBudget
from stages.training.memory.passes import Pass, pass_parts
from stages.training.objectives.preference import PairExample, PreferenceObjective
from tests.fixtures.allocated import peak_bytes
from tests.stages.training.test_memory import kept_for_backward

LAYERS = 6
CONFIG = LlamaConfig(
    vocab_size=512,
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=LAYERS,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    initializer_range=0.1,
)
LORA = [None, LoraConfig(rank=8)]


def shape() -> ModelShape:
    found = shape_of(CONFIG.to_dict())
    assert isinstance(found, ModelShape)
    return found


@pytest.fixture(scope="module")
def new_model() -> Callable[[TrainingConfig], Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    start = AutoModelForCausalLM.from_config(CONFIG).eval()
    return lambda training: trainable_start(deepcopy(start), training.lora, "start", 0)


@pytest.fixture(scope="module")
def pairs() -> list[PairExample]:
    """Some small ones, and one of 250 tokens."""
    numbers = random.Random(3)

    def tokens(count: int) -> list[int]:
        return [numbers.randrange(1, 512) for _ in range(count)]

    lengths = [(8, 30, 22), (40, 5, 16), (10, 120, 120), (3, 28, 28), (30, 9, 9)]
    return [
        PairExample(f"pair-{i}", tokens(a), tokens(b), tokens(c), -90.0, -100.0)
        for i, (a, b, c) in enumerate(lengths)
    ]


def passed(model: Any, pairs: Sequence[PairExample], training: TrainingConfig) -> Any:
    """Losses and gradients of a step; the items of each pass and how many layers ran again."""
    engine = open_engine(model, training, SilentProgress(), pairs)
    objective = PreferenceObjective(SigmoidLoss(), engine)
    runs: list[int] = []

    def count(*_: Any) -> None:
        if torch.is_grad_enabled():  # not when layers are probed
            runs.append(1)

    layers: list[Any] = list(layers_to_rerun(model))
    for layer in layers:
        layer.mlp.register_forward_pre_hook(count)
    losses: dict[str, float] = {}
    passes = []
    for micro in objective.micro_batches(pairs, len(pairs)):
        runs.clear()
        columns = objective.accumulate(model, micro, 1 / len(pairs))
        losses |= {p.key: float(n) for p, n in zip(micro, columns["loss"], strict=True)}
        passes.append((len(micro), len(runs) - LAYERS))
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return losses, found, passes


@pytest.mark.parametrize("packing", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("lora", LORA, ids=["full", "lora"])
def test_losses_and_gradients_are_those_without_a_limit(
    lora: LoraConfig | None,
    packing: bool,
    new_model: Callable[[TrainingConfig], Any],
    pairs: list[PairExample],
) -> None:
    free = TrainingConfig(lora=lora, packing=packing)
    tight = free.model_copy(update={"max_activation_gb": 0.0075 if packing else 0.013})
    losses, gradients, passes = passed(new_model(free), pairs, free)
    fitted, limited, more = passed(new_model(tight), pairs, tight)
    assert passes == [(5, 0)]
    assert len(more) > 1
    assert 0 < more[0][1] < LAYERS
    assert more[-1][1] == 0
    assert fitted == pytest.approx(losses, rel=1e-5)
    assert limited.keys() == gradients.keys()
    for name, gradient in gradients.items():
        apart = float((limited[name] - gradient).norm())
        assert apart <= 1e-4 * float(gradient.norm()) + 1e-7, name


@pytest.mark.parametrize("lora", LORA, ids=["full", "lora"])
@pytest.mark.parametrize("limit", [0.022, 0.02, 0.016, 0.014])
def test_what_autograd_keeps_is_within_the_limit(
    limit: float, lora: LoraConfig | None, new_model: Callable[[TrainingConfig], Any]
) -> None:
    training = TrainingConfig(lora=lora, max_activation_gb=limit)
    model, pair = new_model(training), PairExample("pair", [1] * 12, [2] * 250, [3] * 250)
    budget = PassBudget(shape(), training, "cpu")
    one = budget.fitted(Pass(512, 500))
    assert 0 < one.again < LAYERS
    assert budget.size(one) <= limit * 1e9
    assert budget.size(Pass(512, 500, again=one.again - 1)) > limit * 1e9
    engine = open_engine(model, training, SilentProgress(), [pair])
    with kept_for_backward(model) as kept:
        PreferenceObjective(SigmoidLoss(), engine).accumulate(model, [pair], 1.0)
    assert sum(kept.values()) <= limit * 1e9
    said = pass_parts(shape(), training, "cpu", one)["activations"]
    assert sum(kept.values()) == pytest.approx(said, rel=0.1)


WAYS: dict[str, dict[str, Any]] = {
    "packed": {"max_activation_gb": 0.1},
    "packed, some layers run again": {"max_activation_gb": 0.016},
    "packed, all layers run again": {"gradient_checkpointing": True, "max_activation_gb": 0.0115},
    "padded": {"packing": False, "max_activation_gb": 0.1},
    "padded, some layers run again": {"packing": False, "max_activation_gb": 0.024},
    "padded, all layers run again": {
        "packing": False,
        "gradient_checkpointing": True,
        "max_activation_gb": 0.01,
    },
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("lora", LORA, ids=["full", "lora"])
@pytest.mark.parametrize("way", WAYS)
def test_a_pass_takes_what_is_said(
    way: str, lora: LoraConfig | None, new_model: Callable[[TrainingConfig], Any]
) -> None:
    """By the allocator's own count, so that no process, kernel or C library is measured too."""
    training = TrainingConfig(lora=lora, **WAYS[way])
    model, pair = new_model(training), PairExample("pair", [1] * 12, [2] * 250, [3] * 250)
    for parameter in model.parameters():
        if parameter.requires_grad:  # gradients are none of a pass's own
            parameter.grad = torch.zeros_like(parameter)
    engine = open_engine(model, training, SilentProgress(), [pair])
    objective = PreferenceObjective(SigmoidLoss(), engine)
    took = peak_bytes(lambda: objective.accumulate(model, [pair], 1.0))
    budget = PassBudget(shape(), training, "cpu")
    [one] = [budget.fitted(alone) for alone in engine.passes_alone([pair])]
    assert (one.again > 0, one.again < LAYERS) == ("again" in way, "all" not in way)
    assert took <= (training.max_activation_gb or 0) * 1e9 * 1.03
    assert budget.size(one) == pytest.approx(took, rel=0.1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [1, 4])
def test_in_a_step_of_one_pass_gradients_come_as_activations_go(
    count: int, new_model: Callable[[TrainingConfig], Any]
) -> None:
    training = TrainingConfig(batch_size=count)
    model, item = new_model(training), Item(12, (120, 120))
    pairs = [PairExample(str(i), [1] * 12, [2 + i] * 120, [9] * 120) for i in range(count)]
    objective = PreferenceObjective(SigmoidLoss(), open_engine(model, training, SilentProgress()))
    [together] = objective.micro_batches(pairs, count)
    took = peak_bytes(lambda: objective.accumulate(model, together, 1.0))
    bill = training_bill(shape(), training, item, "cpu")
    there = bill.parts["weights"] + bill.parts["optimizer"]
    assert bill.total - there == pytest.approx(took, rel=0.1)
    several = training_bill(shape(), training.model_copy(update={"batch_size": 9}), item, "cpu")
    assert several.parts["gradients"] == 4 * shape().parameters


def test_a_pack_has_as_many_tokens_as_fit() -> None:
    def most(gb: float | None) -> int:
        return PassBudget(shape(), TrainingConfig(max_activation_gb=gb), "cpu").most_tokens()

    assert [most(gb) for gb in (None, 0.05, 0.013, 0.001)] == [1024, 1024, 256, 64]
    declared = TrainingConfig(max_activation_gb=1.0, tokens_per_micro_batch=100)
    assert PassBudget(shape(), declared, "cpu").most_tokens() == 100


@pytest.mark.parametrize("packing", [True, False], ids=["packed", "padded"])
def test_what_cannot_fit_is_refused_with_the_least_that_can(
    packing: bool, new_model: Callable[[TrainingConfig], Any], pairs: list[PairExample]
) -> None:
    training = TrainingConfig(packing=packing, max_activation_gb=0.004)
    with pytest.raises(ConfigError, match="GB do not hold an item of 2"):
        open_engine(new_model(training), training, SilentProgress(), pairs)
    with pytest.raises(ConfigError) as refused:
        open_engine(new_model(training), training, SilentProgress(), pairs)
    assert "\n" not in str(refused.value)
    least = float(str(refused.value).split("raise it to ")[1].split(",")[0])
    enough = training.model_copy(update={"max_activation_gb": least})
    open_engine(new_model(training), enough, SilentProgress(), pairs)
    short = training.model_copy(update={"max_activation_gb": least - 0.0015})
    with pytest.raises(ConfigError):
        open_engine(new_model(training), short, SilentProgress(), pairs)


def test_a_model_that_nothing_is_known_of_is_refused() -> None:
    config = deepcopy(CONFIG)
    config.linear_key_head_dim = 4
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(ConfigError, match="max_activation_gb: what a pass takes is not known"):
        open_engine(model, TrainingConfig(max_activation_gb=1.0), SilentProgress())


def test_training_is_the_same_training(
    context: StageContext,
    new_model: Callable[[TrainingConfig], Any],
    pairs: list[PairExample],
    tmp_path: Any,
) -> None:
    def rows(name: str, gb: float | None) -> list[Any]:
        training = TrainingConfig(
            batch_size=3, max_steps=3, learning_rate=1e-3, save_every=None, max_activation_gb=gb
        )
        (tmp_path / name).mkdir()
        model = new_model(training)
        engine = open_engine(model, training, SilentProgress(), pairs)
        objective = PreferenceObjective(SigmoidLoss(), engine)
        where = StageContext({}, tmp_path / name)
        return train(TrainingRun(model, objective, pairs, pairs[:2], training, where, "train"))

    free, tight = rows("free", None), rows("tight", 0.0075)
    assert [row["num_pairs"] for row in tight[1:]] == [3, 2, 3]
    for name in ("loss", "grad_norm", "eval_loss"):
        told = [row[name] for row in free if name in row]
        assert [row[name] for row in tight if name in row] == pytest.approx(told, rel=1e-3)


def test_the_bill_is_of_passes_that_fit() -> None:
    item = Item(12, (250, 250))
    free = training_bill(shape(), TrainingConfig(), item, "cpu")
    tight = training_bill(shape(), TrainingConfig(max_activation_gb=0.016), item, "cpu")
    apart = {"weights", "gradients", "optimizer"}
    assert sum(n for name, n in tight.parts.items() if name not in apart) <= 0.016e9
    assert {n: tight.parts[n] for n in apart} == {n: free.parts[n] for n in apart}
    assert "0.016 GB a pass, 3 of 6 layers run again for the longest" in tight.about
    assert tight.refusal == ""
    small = training_bill(shape(), TrainingConfig(max_activation_gb=0.01), item, "cpu")
    assert "do not hold an item of 512 tokens" in small.refusal


def test_without_single_layers_all_run_again() -> None:
    training = TrainingConfig(max_activation_gb=0.02)
    whole = PassBudget(shape(), training, "cpu", partly=False)
    assert whole.fitted(Pass(512, 500)).again == LAYERS
    never = PassBudget(shape(), training, "cpu", recomputable=False)
    assert "its layers cannot be run again" in str(never.refusal(Pass(512, 500)))


def test_layers_are_found_where_each_can_be_run_again(
    new_model: Callable[[TrainingConfig], Any],
) -> None:
    model = new_model(TrainingConfig(lora=LORA[1]))
    assert len(layers_to_rerun(model)) == LAYERS
    assert isinstance(open_engine(model, TrainingConfig(), SilentProgress()), PackedEngine)
