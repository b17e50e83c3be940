"""Norms and gated MLPs that keep less for their backward, on a CPU.

Autograd keeps every step of an RMSNorm and of a SwiGLU: ten numbers where three are enough. Here a
norm keeps what it read, an MLP its two projections; what the next products have to read again (what
was normalised, what was gated) is made anew when their backward asks for it. That is a few cheap
passes over numbers that stay in a core's cache, for half of a layer's activations.

A module is taken where a probe shows that it computes just that; the others run as they are.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import ref

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Tokens whose numbers are worked on together.
_ROWS = 64
_SAME = 1e-5


@dataclass(frozen=True)
class LeanLayers:
    """Modules of a model that are run the lean way."""

    norms: list[nn.Module]
    mlps: list[nn.Module]

    @classmethod
    def of(cls, model: nn.Module) -> "LeanLayers":
        """Those that a probe takes; every one is tried, as layers of a class may differ."""
        modules = list(model.modules())
        return cls(
            [module for module in modules if _may_be_norm(module) and _is_norm(module)],
            [module for module in modules if _may_be_mlp(module) and _is_mlp(module)],
        )

    def outside(self, layers: Iterable[nn.Module]) -> "LeanLayers":
        """Those that are in none of these layers."""
        left = {module for layer in layers for module in layer.modules()}
        norms, mlps = ([m for m in found if m not in left] for found in (self.norms, self.mlps))
        return LeanLayers(norms, mlps)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Around a forward pass and its backward, which happens once."""
        again = _MadeAgain()
        with ExitStack() as stack:
            for norm in self.norms:
                stack.enter_context(_running(norm, _norm_forward(norm, again)))
            for mlp in self.mlps:
                stack.enter_context(_running(mlp, _mlp_forward(mlp, again)))
            if self.norms or self.mlps:
                hooks = torch.autograd.graph.saved_tensors_hooks(again.pack, again.unpack)
                stack.enter_context(hooks)
            yield


@contextmanager
def _running(module: nn.Module, forward: Callable[..., Tensor]) -> Iterator[None]:
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


def _may_be_norm(module: Any) -> bool:
    weight: Any = getattr(module, "weight", None)
    return (
        type(module).__name__.endswith("RMSNorm")
        and _is_plain(weight)
        and isinstance(_epsilon(module), float)
        and [name for name, _ in module.named_parameters()] == ["weight"]
        and bool(weight.ndim == 1)
    )


def _is_plain(weight: Any) -> bool:
    plain = type(weight) is nn.Parameter and weight.device.type == "cpu"
    return bool(plain and weight.dtype == torch.float32)


def _epsilon(norm: Any) -> Any:
    return getattr(norm, "variance_epsilon", getattr(norm, "eps", None))


@torch.no_grad()
def _is_norm(norm: Any) -> bool:
    states = torch.linspace(-1, 2, 3 * len(norm.weight)).sin().view(1, 3, -1)
    expected = states * (states.square().mean(-1, keepdim=True) + _epsilon(norm)).rsqrt()
    try:
        found = norm(states)
    except (RuntimeError, TypeError, ValueError):
        return False
    return torch.allclose(found, expected * norm.weight, rtol=_SAME, atol=_SAME)


def _may_be_mlp(module: Any) -> bool:
    names = {name for name, _ in module.named_children()}
    return names == {"gate_proj", "up_proj", "down_proj", "act_fn"} and all(
        _is_plain(weight) for weight in module.parameters()
    )


@torch.no_grad()
def _is_mlp(mlp: Any) -> bool:
    width = next(mlp.gate_proj.parameters()).shape[1]
    states = torch.linspace(-1, 2, 3 * width).sin().view(1, 3, -1)
    try:
        expected = mlp.down_proj(F.silu(mlp.gate_proj(states)) * mlp.up_proj(states))
        found = mlp(states)
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return False
    return isinstance(found, Tensor) and torch.allclose(found, expected, rtol=_SAME, atol=_SAME)


def _norm_forward(norm: Any, again: "_MadeAgain") -> Callable[..., Tensor]:
    def forward(states: Tensor, *more: Any, **named: Any) -> Tensor:
        if states.dtype != torch.float32 or more or named:
            normed: Tensor = type(norm).forward(norm, states, *more, **named)
            return normed
        recipe = _Normed(states.detach(), norm.weight.detach(), _epsilon(norm))
        result: Tensor = _Norm.apply(states, norm.weight, recipe)  # type: ignore[no-untyped-call]
        again.remember(result, recipe)
        return result

    return forward


def _mlp_forward(mlp: Any, again: "_MadeAgain") -> Callable[..., Tensor]:
    def forward(states: Tensor, *more: Any, **named: Any) -> Tensor:
        if more or named:
            plain: Tensor = type(mlp).forward(mlp, states, *more, **named)
            return plain
        gate, up = mlp.gate_proj(states), mlp.up_proj(states)
        recipe = _Gated(gate.detach(), up.detach())
        gated: Tensor = _SwiGlu.apply(gate, up, recipe)  # type: ignore[no-untyped-call]
        again.remember(gated, recipe)
        result: Tensor = mlp.down_proj(gated)
        return result

    return forward


class _Normed:
    """x / rms(x) * weight."""

    def __init__(self, states: Tensor, weight: Tensor, epsilon: float) -> None:
        squares = torch.linalg.vector_norm(states, dim=-1, keepdim=True).square_()
        self.states, self.weight = states, weight
        self.scale: Tensor = squares.div_(states.shape[-1]).add_(epsilon).rsqrt_()

    def value(self) -> Tensor:
        """What was normalised."""
        return (self.states * self.scale).mul_(self.weight)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        _, weight, ctx.recipe = arguments
        ctx.trained = weight.requires_grad
        value: Tensor = ctx.recipe.value()
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """With n = x / rms(x) and g the gradient of n: d x = (g - n * mean(g * n)) / rms(x)."""
        recipe, weight = ctx.recipe, ctx.recipe.weight
        rows = [t.flatten(0, -2) for t in (recipe.states, recipe.scale, gradients[0])]
        result = torch.empty_like(rows[0])
        slopes = torch.zeros_like(weight)
        parts = zip(*(t.split(_ROWS) for t in (*rows, result)), strict=True)
        for states, scale, gradient, out in parts:
            normed = states * scale
            product = gradient * normed
            means = torch.mv(product, weight).div_(len(weight)).unsqueeze(1)
            torch.mul(gradient, weight, out=out)
            out.addcmul_(normed, means, value=-1).mul_(scale)
            if ctx.trained:
                slopes += product.sum(0)
        shape = recipe.states.shape
        recipe.states = ctx.recipe = None  # the graph outlives its backward
        return result.view(shape), slopes if ctx.trained else None, None


class _Gated:
    """silu(gate) * up; its sigmoid, once made, is there for the backward that follows."""

    def __init__(self, gate: Tensor, up: Tensor) -> None:
        self.gate, self.up = gate, up
        self.sigmoid: Tensor | None = None

    def value(self) -> Tensor:
        """What was gated."""
        self.sigmoid = torch.sigmoid(self.gate)
        return (self.gate * self.sigmoid).mul_(self.up)


class _SwiGlu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        gate, up, ctx.recipe = arguments
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """With s = sigmoid(gate): d silu(gate) / d gate = s * (1 + gate * (1 - s))."""
        recipe = ctx.recipe
        sigmoid = torch.sigmoid(recipe.gate) if recipe.sigmoid is None else recipe.sigmoid
        recipe.sigmoid = None
        read = [t.flatten(0, -2) for t in (recipe.gate, recipe.up, sigmoid, gradients[0])]
        of_gate, of_up = (torch.empty_like(read[0]) for _ in range(2))
        for gate, up, s, gradient, gates, ups in zip(
            *(t.split(_ROWS) for t in (*read, of_gate, of_up)), strict=True
        ):
            silu = gate * s
            torch.mul(gradient, silu, out=ups)
            torch.mul(gradient, up, out=gates)
            gates.mul_((silu + s).addcmul_(silu, s, value=-1))
        shape = recipe.gate.shape
        recipe.gate = recipe.up = ctx.recipe = None  # the graph outlives its backward
        return of_gate.view(shape), of_up.view(shape), None


class _Kept:
    """A tensor that is made again where it was to be saved, once for all that saved it."""

    def __init__(self, tensor: Tensor, recipe: _Normed | _Gated) -> None:
        self.tensor, self.version = ref(tensor), tensor._version
        self.recipe, self.users = recipe, 0
        self._value: Tensor | None = None

    def is_same(self, other: Tensor) -> bool:
        """Whether `other` is the tensor, or a view of all of it."""
        tensor = self.tensor()
        return (
            tensor is not None
            and tensor.data_ptr() == other.data_ptr()
            and tensor.numel() == other.numel()
            and tensor.is_contiguous()  # its value, made again, is laid out as it is
            and other.is_contiguous()
            and self.version == other._version
        )

    def value(self) -> Tensor:
        """Made by the first that asks, forgotten after the last."""
        made = self.recipe.value() if self._value is None else self._value
        self.users -= 1
        self._value = made if self.users > 0 else None
        return made


class _MadeAgain:
    """Which tensors are not to be saved; what came last is what is saved next."""

    def __init__(self) -> None:
        self._last: _Kept | None = None

    def remember(self, tensor: Tensor, recipe: _Normed | _Gated) -> None:
        """From now on `tensor` need not be saved."""
        self._last = _Kept(tensor, recipe) if torch.is_grad_enabled() else None

    def pack(self, tensor: Tensor) -> Any:
        """See `saved_tensors_hooks`."""
        last = self._last
        if last is None or not last.is_same(tensor):
            return tensor
        last.users += 1
        return last, tensor.shape

    def unpack(self, packed: Any) -> Tensor:
        """See `saved_tensors_hooks`."""
        if isinstance(packed, Tensor):
            return packed
        kept, shape = packed
        made: Tensor = kept.value().view(shape)
        return made
