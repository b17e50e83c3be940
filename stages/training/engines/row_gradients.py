"""Gradients of an embedding, added row by row to what is there.

Autograd would make a zero gradient of the whole embedding for every micro-batch, scatter a few rows
into it, and add it up: at small batches that costs more than the attention does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.training.engines.fused_head import gradient_of


@contextmanager
def row_gradients(model: Any) -> Iterator[None]:
    """Let the input embedding take its gradient by rows, where it is trained and a plain one."""
    embedding = model.get_input_embeddings()
    plain = type(embedding) is torch.nn.Embedding and embedding.max_norm is None
    if not plain or embedding.scale_grad_by_freq or not embedding.weight.requires_grad:
        yield
        return

    def look_up(module: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        rows: Tensor = _LookUp.apply(inputs[0], module.weight, module.padding_idx)  # type: ignore[no-untyped-call]
        return rows

    hook = embedding.register_forward_hook(look_up)
    try:
        yield
    finally:
        hook.remove()


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        ids, ctx.weight, ctx.padding = arguments
        ctx.save_for_backward(ids)
        return F.embedding(ids, ctx.weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (ids,) = ctx.saved_tensors
        rows, total = gradients[0], gradient_of(ctx.weight)
        if ctx.padding is not None:
            rows = rows.masked_fill((ids == ctx.padding).unsqueeze(-1), 0)
        total.index_add_(0, ids.flatten(), rows.flatten(0, -2).to(total.dtype))
        return None, None, None
