"""Tree attention in parts and by sequence, against softmax over the tokens that a token may see."""

import math
import random
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from stages.training.attention import tree
from stages.training.attention.flash_kernels import KERNELS, AllRuns, RunByRun, Runs, Segments
from stages.training.attention.split import attention_in_parts
from stages.training.attention.tree import CannotShareError, TreeAttention
from stages.training.data.packing import Pack

HEADS, SIZE, SCALE = 4, 16, 0.3
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Grown:
    prompt_ids: list[int]
    branches: list[list[int]]


def forest(seed: int, branches: int) -> list[Grown]:
    numbers = random.Random(seed)
    lengths = [1, *(numbers.randint(1, 30) for _ in range(4))]
    return [
        Grown([7] * n, [[9] * numbers.randint(1, 20) for _ in range(branches)]) for n in lengths
    ]


def visible(pack: Pack, window: int | None) -> torch.Tensor:
    """Who sees whom, bool (tokens, tokens), from the definition."""
    position = pack.position_ids[0]
    seen = torch.zeros(len(position), len(position), dtype=torch.bool)
    filler = range(pack.places[-1].branches[-1].stop, len(position))
    runs = [[*p.prompt, *b] for p in pack.places for b in p.branches] + [list(filler)]
    for run in runs:
        own = torch.tensor(run, dtype=torch.long)
        distance = position[own][:, None] - position[own][None, :]
        seen[own[:, None], own] |= (distance >= 0) & (distance < (window or len(position)))
    return seen


def states(tokens: int, kv_heads: int, dtype: torch.dtype = torch.float32) -> Any:
    generator = torch.Generator().manual_seed(tokens)
    shapes = [(1, heads, tokens, SIZE) for heads in (HEADS, kv_heads, kv_heads)]
    made = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    return [t.requires_grad_() for t in made]


def attend(inputs: Any, attention_mask: Any = None, **settings: Any) -> Any:
    query, key, value = inputs
    return tree._attention(None, query, key, value, attention_mask, **settings)


def attend_by(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a CPU take blocks, or a GPU's ways."""
    if how != "blocks":
        monkeypatch.setattr(tree, "_in_blocks", lambda _: False)
    if how == "sequences":
        monkeypatch.setattr(tree, "has_kernel", lambda *_: False)


def by_definition(inputs: Any, seen: torch.Tensor) -> torch.Tensor:
    query, key, value = inputs
    key, value = (t.repeat_interleave(HEADS // t.shape[1], dim=1) for t in (key, value))
    scores = (query @ key.transpose(2, 3) * SCALE).masked_fill(~seen, -math.inf)
    attended: torch.Tensor = (scores.softmax(-1) @ value).transpose(1, 2)
    return attended


def with_gradients(attended: torch.Tensor, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    weights = torch.linspace(-1, 1, attended.numel()).view_as(attended)
    return [attended.detach(), *torch.autograd.grad((attended * weights).sum(), inputs)]


@pytest.mark.parametrize("branches", [1, 2, 3])
@pytest.mark.parametrize("kv_heads", [1, 4])
@pytest.mark.parametrize("window", [None, 5, 100])
@pytest.mark.parametrize("how", ["blocks", "parts", "sequences"])
def test_output_and_gradients_follow_the_definition(
    branches: int,
    kv_heads: int,
    window: int | None,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attend_by(how, monkeypatch)
    pack = Pack.of(forest(branches, branches), CPU)
    assert pack.input_ids.shape[1] % 64 == 0
    inputs = states(pack.input_ids.shape[1], kv_heads)
    ours, nothing = attend(inputs, scaling=SCALE, sliding_window=window, tree=pack.attention)
    assert nothing is None
    expected = by_definition(inputs, visible(pack, window))
    read = slice(pack.attention.filler.start)
    for mine, right in zip(
        with_gradients(ours[:, read], inputs),
        with_gradients(expected[:, read], inputs),
        strict=True,
    ):
        assert torch.allclose(mine, right, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("how", ["blocks", "parts"])
def test_bfloat16_is_scored_in_float32_and_rounded_once_per_part(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attend_by(how, monkeypatch)
    pack = Pack.of(forest(3, 2), CPU)
    assert far_from_definition(pack, HEADS) < 1e-2


@pytest.mark.parametrize("kv_heads", [1, 4])
@pytest.mark.parametrize(
    "lengths", [(140, [60]), (100, [40, 90]), (1, [1, 200, 1]), (200, [30, 1, 150]), (64, [32, 32])]
)
def test_trees_of_several_blocks_follow_the_definition(
    lengths: tuple[int, list[int]], kv_heads: int
) -> None:
    prompt, branches = lengths
    tree = Grown([7] * prompt, [[9] * n for n in branches])
    small = Grown([7] * 3, [[9] * 2 for _ in branches])
    assert far_from_definition(Pack.of([tree, small], CPU), kv_heads) < 1e-2


def far_from_definition(pack: Pack, kv_heads: int) -> float:
    """Relative distance in bfloat16, of the output or a gradient, whichever is farther."""
    inputs = states(pack.input_ids.shape[1], kv_heads, torch.bfloat16)
    ours, _ = attend(inputs, scaling=SCALE, tree=pack.attention)
    assert ours.dtype == torch.bfloat16
    exact = [t.detach().float().requires_grad_() for t in inputs]
    expected = by_definition(exact, visible(pack, None))
    read = slice(pack.attention.filler.start)
    found = with_gradients(ours[:, read], inputs)
    right = with_gradients(expected[:, read], exact)
    return max(float((a.float() - b).norm() / b.norm()) for a, b in zip(found, right, strict=True))


@pytest.mark.parametrize("extra", [{"softcap": 5.0}, {"dropout": 0.1}, {"s_aux": torch.ones(1)}])
def test_what_is_not_done_here_is_refused(extra: dict[str, Any]) -> None:
    pack = Pack.of(forest(4, 2), CPU)
    inputs = states(pack.input_ids.shape[1], HEADS)
    with pytest.raises(CannotShareError):
        attend(inputs, tree=pack.attention, **extra)


def test_no_tree_and_a_prepared_mask_are_refused() -> None:
    inputs = states(8, HEADS)
    tree = TreeAttention([], range(8), CPU)
    for mask, given in ((None, None), (torch.ones(8, 8), tree)):
        with pytest.raises(CannotShareError):
            attend(inputs, attention_mask=mask, tree=given)


@pytest.mark.gpu
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_gpu_gives_what_the_cpu_gives(kv_heads: int) -> None:
    trees = forest(5, 3)
    results = []
    for device in (CPU, torch.device("cuda")):
        attention = Pack.of(trees, device).attention
        made = states(attention.filler.stop, kv_heads, torch.bfloat16)
        inputs = [t.detach().to(device).requires_grad_() for t in made]
        read = [t[0].transpose(0, 1) for t in inputs]
        attended = attention_in_parts(
            (read[0], read[1], read[2]), attention.own, attention.crossing, SCALE
        )
        weights = torch.linspace(-1, 1, attended.numel()).view(attended.shape).to(device)
        found = torch.autograd.grad((attended * weights).sum(), inputs)
        results.append([t.detach().float().cpu() for t in (attended, *found)])
    for on_cpu, on_gpu in zip(*results, strict=True):
        assert float((on_cpu - on_gpu).norm() / on_cpu.norm()) < 2e-2


def test_both_kernels_are_called_with_the_same_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU's op is stood in for by one that walks over the bounds it is given."""

    def forward(
        query: Any, key: Any, value: Any, starts: Any, seen: Any, *rest: Any, scale: float
    ) -> Any:
        longest, longest_key, dropout, causal, debug = rest
        assert (dropout, debug) == (0.0, False)
        assert starts.dtype == seen.dtype == torch.int32
        assert longest == int(starts.diff().max())
        assert longest_key == int(seen.diff().max())
        segments = [Segments.ending_at(b[1:].tolist(), CPU) for b in (starts, seen)]
        runs = Runs(segments[0], segments[1], scale, causal)
        return *RunByRun.forward((query, key, value), runs), None, None, None

    def backward(
        gradient: Any,
        query: Any,
        key: Any,
        value: Any,
        output: Any,
        lse: Any,
        *rest: Any,
        scale: float,
    ) -> Any:
        starts, seen, _, _, dropout, causal, _, _ = rest
        assert dropout == 0.0
        segments = [Segments.ending_at(b[1:].tolist(), CPU) for b in (starts, seen)]
        runs = Runs(segments[0], segments[1], scale, causal)
        return RunByRun.backward(gradient, (query, key, value), output, lse, runs)

    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", forward)
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_backward", backward)
    attend_by("parts", monkeypatch)
    pack = Pack.of(forest(6, 2), CPU)
    inputs = states(pack.input_ids.shape[1], HEADS)
    results = []
    for kernel in (RunByRun, AllRuns):
        monkeypatch.setitem(KERNELS, "cpu", kernel)
        attended, _ = attend(inputs, scaling=SCALE, tree=pack.attention)
        results.append(with_gradients(attended, inputs))
    for mine, other in zip(*results, strict=True):
        assert torch.equal(mine, other)
