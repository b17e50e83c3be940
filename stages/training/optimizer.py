"""AdamW as the settings ask for it: torch's own in float32, else one whose numbers are short."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.utils import is_bitsandbytes_available

from evals.memory.between_layers import trim
from schemas.errors import ConfigError
from stages.training.config import StateFormat, TrainingConfig
from stages.training.distributed.world import current_world
from stages.training.memory.sizes import LEAST_STATE_NUMBERS, STATE_BLOCK

Group = dict[str, Any]

# Numbers that are worked on together in float32, a multiple of the block.
_TOGETHER = 2**20


def adamw(parameters: Sequence[torch.nn.Parameter], config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices only: norms and biases have no scale to keep small.

    Raises:
        ConfigError: the numbers are to be shorter than float32 on several ranks, or in 8 bits
            without bitsandbytes.
    """
    groups: list[Group] = [
        {"params": [p for p in parameters if p.ndim >= 2]},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    settings: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": (config.adam_beta1, config.adam_beta2),
        "eps": config.adam_eps,
        "weight_decay": config.weight_decay,
    }
    states = config.optimizer_states
    if states == "float32" and all(p.dtype == torch.float32 for p in parameters):
        return torch.optim.AdamW(groups, fused=True, **settings)
    if current_world().size > 1:
        raise ConfigError(
            "training: on several ranks the weights that are trained and the optimizer's states "
            "are float32; set training.optimizer_states to float32, and training.weights to "
            "float32 where there is no training.lora"
        )
    if states == "int8" and not is_bitsandbytes_available():
        raise ConfigError(
            "training.optimizer_states: int8 needs bitsandbytes, which is not installed: "
            "pip install bitsandbytes; or set it to bfloat16"
        )
    return ShortAdamW(groups, states, **settings)


class ShortAdamW(torch.optim.AdamW):
    """AdamW with short moments, and with weights in bfloat16 that are rounded stochastically.

    Every number is worked on in float32. A weight in bfloat16 goes to one of its two neighbours, to
    the nearer one the likelier, so that steps far smaller than its last digit add up on average
    (Zamirai et al. 2020, arXiv:2010.06192). The random numbers are torch's own of the device.
    """

    def __init__(self, params: Any, states: StateFormat = "float32", **settings: Any) -> None:
        super().__init__(params, **settings)
        self._states = states

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """See torch's; no closure is taken."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group)
                    if parameter.device.type == "cpu":
                        trim()

    def load_state_dict(self, state_dict: Any) -> None:
        """See torch's, which would give every state the type of its weight."""
        super().load_state_dict(state_dict)
        parameters = [p for group in self.param_groups for p in group["params"]]
        for index, saved in state_dict["state"].items():
            device = parameters[index].device
            self.state[parameters[index]] = {n: t.to(device) for n, t in saved.items()}

    def _step(self, parameter: Tensor, group: Group) -> None:
        moments = [self._moment(parameter, name) for name in ("exp_avg", "exp_avg_sq")]
        state = self.state[parameter]
        state["step"] = state.get("step", torch.zeros(())) + 1
        done, (beta1, beta2) = float(state["step"]), group["betas"]
        weights, gradients = parameter.view(-1), parameter.grad.reshape(-1)  # type: ignore[union-attr]
        for part in _parts(len(weights)):
            gradient, weight = gradients[part].float(), weights[part].float()
            first = moments[0].read(part).lerp_(gradient, 1 - beta1)
            second = moments[1].read(part).mul_(beta2)
            second.addcmul_(gradient, gradient, value=1 - beta2)
            bottom = second.sqrt().div_((1 - beta2**done) ** 0.5).add_(group["eps"])
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.addcdiv_(first, bottom, value=-group["lr"] / (1 - beta1**done))
            _write(weights[part], weight)
            moments[0].write(part, first)
            moments[1].write(part, second)

    def _moment(self, parameter: Tensor, name: str) -> "_Moment":
        small = parameter.numel() < LEAST_STATE_NUMBERS
        if self._states == "int8" and not small:
            return _EightBits(self.state[parameter], name, parameter)
        return _Moment(self.state[parameter], name, parameter, short=self._states != "float32")


def _parts(size: int) -> Iterator[slice]:
    for start in range(0, size, _TOGETHER):
        yield slice(start, min(size, start + _TOGETHER))


class _Moment:
    """A moment of one parameter, kept in the optimizer's state as plain numbers."""

    def __init__(
        self, state: dict[str, Tensor], name: str, parameter: Tensor, *, short: bool
    ) -> None:
        if name not in state:
            dtype = torch.bfloat16 if short else torch.float32
            state[name] = torch.zeros_like(parameter, dtype=dtype)
        self._numbers = state[name].view(-1)

    def read(self, part: slice) -> Tensor:
        """A part in float32, to be changed."""
        return self._numbers[part].to(torch.float32, copy=True)

    def write(self, part: slice, values: Tensor) -> None:
        """Keep a part; a short one is rounded stochastically, or a slow mean would stand still."""
        _write(self._numbers[part], values)


class _EightBits(_Moment):
    """A moment in blocks of 8-bit numbers, each with its scale (Dettmers et al. 2021).

    arXiv:2110.02861; the codes are bitsandbytes'.
    """

    def __init__(self, state: dict[str, Tensor], name: str, parameter: Tensor) -> None:
        size, device = parameter.numel(), parameter.device
        self._code = _code(signed=name == "exp_avg").to(device)
        if name not in state:
            zero = int(self._code.abs().argmin())
            state[name] = torch.full_like(parameter, zero, dtype=torch.uint8)
            state[f"{name}_scales"] = torch.zeros(-(-size // STATE_BLOCK), device=device)
        self._numbers, self._scales = state[name].view(-1), state[f"{name}_scales"]

    def read(self, part: slice) -> Tensor:
        """See `_Moment`."""
        from bitsandbytes.functional import dequantize_blockwise

        scales = self._scales[_blocks(part)]
        values: Tensor = dequantize_blockwise(
            self._numbers[part].clone(), absmax=scales, code=self._code, blocksize=STATE_BLOCK
        )
        return values

    def write(self, part: slice, values: Tensor) -> None:
        """See `_Moment`; rounded to the nearest code."""
        from bitsandbytes.functional import quantize_blockwise

        numbers, state = quantize_blockwise(values, code=self._code, blocksize=STATE_BLOCK)
        self._numbers[part] = numbers
        self._scales[_blocks(part)] = state.absmax


def _blocks(part: slice) -> slice:
    return slice(part.start // STATE_BLOCK, -(-part.stop // STATE_BLOCK))


@functools.cache
def _code(*, signed: bool) -> Tensor:
    from bitsandbytes.functional import create_dynamic_map

    code: Tensor = create_dynamic_map(signed=signed)
    return code


def _write(into: Tensor, values: Tensor) -> None:
    if into.dtype == torch.bfloat16:
        values = stochastic_bfloat16(values)
    into.copy_(values)


def stochastic_bfloat16(values: Tensor) -> Tensor:
    """Float32 values rounded up or down to bfloat16, so that they are right on average."""
    bits = values.contiguous().view(torch.int32)
    noise = torch.randint(0, 2**16, bits.shape, dtype=torch.int32, device=bits.device)
    return ((bits + noise) & -(2**16)).view(torch.float32).bfloat16()
