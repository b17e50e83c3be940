"""AdamW with short numbers: by hand, beside torch's and bitsandbytes' own, and resumed."""

from typing import Any

import pytest
import torch
from torch import Tensor

from schemas.errors import ConfigError
from stages.training import optimizer as module
from stages.training.config import TrainingConfig
from stages.training.distributed.world import World
from stages.training.memory.sizes import state_bytes
from stages.training.optimizer import ShortAdamW, adamw, stochastic_bfloat16


def weights_after(optimizer_of: Any, steps: int = 5, size: int = 5000) -> Tensor:
    drawn = torch.Generator().manual_seed(0)  # its own: rounding draws from torch's
    weight = torch.nn.Parameter(torch.randn(size, generator=drawn))
    optimizer = optimizer_of([weight])
    for _ in range(steps):
        weight.grad = torch.randn(size, generator=drawn) * torch.logspace(-3, 0, size)
        optimizer.step()
    return weight.detach().float()


def test_in_float32_it_is_torchs_own() -> None:
    settings: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.1}
    ours = weights_after(lambda p: ShortAdamW(p, "float32", **settings))
    assert torch.allclose(ours, weights_after(lambda p: torch.optim.AdamW(p, **settings)))


def test_moments_in_8_bits_are_those_of_bitsandbytes() -> None:
    optim = pytest.importorskip("bitsandbytes.optim")
    settings: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.1}
    ours = weights_after(lambda p: ShortAdamW(p, "int8", **settings))
    theirs = weights_after(lambda p: optim.AdamW8bit(p, **settings))
    exact = weights_after(lambda p: torch.optim.AdamW(p, **settings))
    assert (ours - theirs).abs().mean() < 0.2 * (theirs - exact).abs().mean() + 1e-6


@pytest.mark.parametrize("states", ["bfloat16", "int8"])
def test_short_moments_move_nearly_alike(states: Any) -> None:
    if states == "int8":
        pytest.importorskip("bitsandbytes")
    settings: dict[str, Any] = {"lr": 1e-2}
    start = weights_after(lambda p: ShortAdamW(p, states, lr=0.0))
    moved = weights_after(lambda p: ShortAdamW(p, states, **settings)) - start
    exact = weights_after(lambda p: torch.optim.AdamW(p, **settings)) - start
    assert torch.nn.functional.cosine_similarity(moved, exact, dim=0) > 0.98


def test_stochastic_rounding_is_right_on_average_and_exact_where_it_can_be() -> None:
    torch.manual_seed(0)
    values = torch.full((100_000,), 1 + 2**-10)  # an eighth of the way from 1 to the next
    rounded = stochastic_bfloat16(values).float()
    assert set(rounded.tolist()) == {1.0, 1 + 2**-7}
    assert float(rounded.mean()) == pytest.approx(1 + 2**-10, abs=1e-4)
    exact = torch.tensor([0.0, -1.5, 3.0e38, -(2.0**-120)])
    kept = exact.bfloat16()
    assert torch.equal(stochastic_bfloat16(kept.float()), kept)


def test_steps_below_the_last_digit_add_up() -> None:
    """With rounding to the nearest a weight of 1 would never move by 1e-4."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.ones(20_000, dtype=torch.bfloat16))
    optimizer = ShortAdamW([weight], "bfloat16", lr=1e-4, weight_decay=0.0)
    for _ in range(20):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert float(weight.detach().float().mean()) == pytest.approx(1 - 20e-4, abs=2e-4)


@pytest.mark.parametrize("states", ["bfloat16", "int8"])
def test_a_saved_state_goes_on_bit_for_bit(states: Any) -> None:
    if states == "int8":
        pytest.importorskip("bitsandbytes")

    def go(cut: bool) -> Tensor:
        torch.manual_seed(1)
        weight = torch.nn.Parameter(torch.randn(3, 3000).bfloat16())
        optimizer = ShortAdamW([weight], states, lr=1e-2)
        for step in range(4):
            if cut and step == 2:
                saved = optimizer.state_dict()
                optimizer = ShortAdamW([weight], states, lr=1e-2)
                optimizer.load_state_dict(saved)
            weight.grad = torch.randn(3, 3000).bfloat16()
            optimizer.step()
        return weight.detach()

    assert torch.equal(go(cut=False), go(cut=True))


def test_several_ranks_take_float32_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "current_world", lambda: World(0, 2))
    config = TrainingConfig(optimizer_states="bfloat16")
    with pytest.raises(ConfigError, match="on several ranks"):
        adamw([torch.nn.Parameter(torch.ones(2, 2))], config)


def test_8_bits_without_their_library_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_bitsandbytes_available", lambda: False)
    with pytest.raises(ConfigError, match="pip install bitsandbytes"):
        adamw([torch.nn.Parameter(torch.ones(2, 2))], TrainingConfig(optimizer_states="int8"))


@pytest.mark.parametrize("states", ["float32", "bfloat16", "int8"])
def test_bytes_of_states_are_what_is_held(states: Any) -> None:
    if states == "int8":
        pytest.importorskip("bitsandbytes")
    weights = [torch.nn.Parameter(torch.zeros(n)) for n in (100, 4096, 10_240)]
    optimizer = ShortAdamW(weights, states, lr=1e-3)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    held = sum(
        tensor.numel() * tensor.element_size()
        for state in optimizer.state.values()
        for name, tensor in state.items()
        if name != "step"
    )
    assert state_bytes(states, {100: 1, 4096: 1, 10_240: 1}) == held


def test_holes_in_the_heap_are_given_back_after_each_weight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[None] = []
    monkeypatch.setattr(module, "trim", lambda: looks.append(None))
    weights_after(lambda p: ShortAdamW(p, "bfloat16", lr=1e-2), steps=3)
    assert len(looks) == 3
