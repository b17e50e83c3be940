"""Mixtures of experts: the term that keeps their load even, and how even it is.

The term is the model's own (Fedus et al. 2021, Switch Transformers, arXiv:2101.03961, eq. 4 to 6,
as its module in transformers computes it), over the real tokens of a forward pass, and weighted by
the model's own `router_aux_loss_coef`, as TRL does. Passes count by their share of a step.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


@dataclass
class Routers:
    """What a pass has shown of its routers; of models without any, nothing."""

    coefficient: float = 0.0
    balance: Any = None
    experts: int = 0
    chosen: int = 0
    seen: list[Sequence[Tensor]] = field(default_factory=list)

    def term(self, present: Tensor) -> "RouterTerm | None":
        """The term of the last pass; `present` (rows, tokens) is 1 where a token is real."""
        if not self.seen or not len(self.seen[-1]):
            return None
        logits = tuple(part.reshape(-1, part.shape[-1]) for part in self.seen[-1])
        loss = self.balance(logits, self.experts, self.chosen, present)
        return RouterTerm(loss, self.coefficient, self._heaviest(logits, present))

    def _heaviest(self, logits: Sequence[Tensor], present: Tensor) -> float:
        """Tokens of the most loaded expert, in the middle over layers, by those of an even load."""
        real = present.flatten().bool()
        with torch.no_grad():
            counts = [
                torch.bincount(part[real].topk(self.chosen, dim=-1).indices.flatten(), minlength=1)
                for part in logits
            ]
        shares = [float(c.max() / c.sum()) * self.experts for c in counts]
        return sorted(shares)[len(shares) // 2]


@dataclass(frozen=True)
class RouterTerm:
    """The load-balancing loss of a pass, a scalar; its weight; and the heaviest expert's load."""

    loss: Tensor
    coefficient: float
    heaviest: float

    def columns(self, like: Tensor) -> dict[str, Tensor]:
        """The same for every item of the pass: (n,)."""
        value = float(self.loss.detach())
        return {
            "router_aux": torch.full_like(like, value),
            "router_term": torch.full_like(like, self.coefficient * value),
            "router_load": torch.full_like(like, self.heaviest),
        }


@contextmanager
def watched_routers(model: Any) -> Iterator[Routers]:
    """Let the model's forward passes hand over what its routers say, where it is trained on."""
    routers = _routers_of(model)
    if not routers.coefficient:
        yield routers
        return

    def ask(_module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, kwargs | {"output_router_logits": True}

    def look(_module: Any, _args: Any, output: Any) -> None:
        found = getattr(output, "router_logits", None)
        routers.seen.append(tuple(part for part in found or () if part is not None))

    hooks = [
        model.register_forward_pre_hook(ask, with_kwargs=True),
        model.register_forward_hook(look),
    ]
    try:
        yield routers
    finally:
        for hook in hooks:
            hook.remove()


def _routers_of(model: Any) -> Routers:
    config = model.config.get_text_config()
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    balance = next(
        (
            found
            for kind in type(plain).__mro__
            if (found := getattr(sys.modules[kind.__module__], "load_balancing_loss_func", None))
        ),
        None,
    )
    if balance is None or not hasattr(config, "output_router_logits"):
        return Routers()

    def said(*names: str) -> float:
        """Of the config, or of the model where it has taken them from a part of that (DBRX)."""
        places = [(place, name) for place in (config, plain) for name in names]
        found = (getattr(place, name, None) for place, name in places)
        return next((float(number) for number in found if number is not None), 0.0)

    coefficient, experts = said("router_aux_loss_coef"), said(*_EXPERTS)
    return Routers(coefficient, balance, int(experts), int(said("num_experts_per_tok")))
