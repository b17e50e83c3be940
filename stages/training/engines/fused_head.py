"""The LM head with its loss: logits exist for one tile of completion tokens at a time.

A tile holds whole items, so the derivative of the loss by each log-probability is known while the
tile is alive: the logits turn in place into their own gradient, which is multiplied into the
gradients of the hidden states and of the head's weight. The next tile takes their memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evals.models.checkpoints import Dtype
from stages.training.memory.sizes import tile_tokens

# Logits that are normalised together in float32: on a CPU they stay in a core's cache.
_BLOCK_BYTES = {"cpu": 2**20, "cuda": 2**28}

# Words whose part of the weight's gradient is made together: a product that a CPU's cache holds.
_WORDS_TOGETHER = {"cpu": 1024, "cuda": 2**20}


@dataclass(frozen=True)
class Logits:
    """Of k completion tokens: `table` (k, words), and float32 (k,) log-probabilities of targets.

    `lse` float32 (k, 1) is the log-sum-exp of each row.
    """

    table: Tensor
    lse: Tensor
    target_logps: Tensor

    def collision(self) -> Tensor:
        """log sum_v p(v)^2 of each row, float32 (k,): while the table is not overwritten."""
        sums = torch.empty_like(self.lse)
        for block, out in zip(_blocks(self.table), _blocks(self.table, sums), strict=True):
            torch.logsumexp(2 * block.float(), 1, keepdim=True, out=out)
        return (sums - 2 * self.lse).squeeze(1)


class Workspace:
    """Memory that one tile, and one micro-batch, takes after another.

    Fresh memory costs a CPU a page fault for every 4 kB.
    """

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def lend(self, name: str, shape: tuple[int, int], like: Tensor, dtype: Any) -> Tensor:
        """Uninitialised, on `like`'s device; what was lent under this name is overwritten."""
        held, size = self._held.pop(name, None), shape[0] * shape[1]
        kind = (dtype, like.device)
        if held is None or held.numel() < size or (held.dtype, held.device) != kind:
            held = None
            held = torch.empty(size, dtype=dtype, device=like.device)
        self._held[name] = held
        return held[:size].view(shape)


class FusedHead:
    """A linear LM head as torch's autocast would run it, in `dtype`."""

    def __init__(self, head: torch.nn.Linear, dtype: Dtype, workspace: Workspace) -> None:
        """The head's weight is (words, hidden); it is cast once for all tiles."""
        self._head = head
        self._dtype = getattr(torch, dtype)
        self._weight = self._cast(head.weight.detach(), workspace)
        self._bias = None if head.bias is None else head.bias.detach().to(self._dtype)
        self._workspace = workspace
        self._device = self._weight.device.type

    def _cast(self, weight: Tensor, workspace: Workspace) -> Tensor:
        if weight.dtype == self._dtype:
            return weight
        shape = (weight.shape[0], weight.shape[1])
        return workspace.lend("weight", shape, weight, self._dtype).copy_(weight)

    @property
    def tile_tokens(self) -> int:
        """Completion tokens of a tile."""
        row_bytes = len(self._weight) * self._weight.element_size()
        return tile_tokens(self._device, row_bytes)

    def logits(self, hidden: Tensor, targets: Tensor) -> Logits:
        """Logits after hidden states (k, hidden); they live until the next call."""
        shape = (len(hidden), len(self._weight))
        table = self._workspace.lend("logits", shape, self._weight, self._dtype)
        torch.mm(hidden.to(self._dtype), self._weight.T, out=table)
        if self._bias is not None:
            table.add_(self._bias)
        lse = torch.empty((len(table), 1), device=table.device)
        # Into one tensor: small ones, each after a block's, would keep the heap from closing up.
        for block, out in zip(_blocks(table), _blocks(table, lse), strict=True):
            torch.logsumexp(block.float(), 1, keepdim=True, out=out)
        return Logits(table, lse, (table.gather(1, targets.unsqueeze(1)).float() - lse).squeeze(1))

    def backward(self, hidden: Tensor, logits: Logits, targets: Tensor, slopes: Tensor) -> Tensor:
        """Gradient of the hidden states (k, hidden); adds those of the head where it is trained.

        Overwrites the logits. `slopes` (k,) are the derivatives of the loss by the log-probability
        of each target: d loss / d logits is slope * (one-hot(target) - softmax).
        """
        table, slopes = logits.table, slopes.float().unsqueeze(1)
        rows = 0
        for block in _blocks(table):
            at = slice(rows, rows := rows + len(block))
            gradient = block.float().sub_(logits.lse[at]).exp_().mul_(-slopes[at])
            gradient.scatter_add_(1, targets[at].unsqueeze(1), slopes[at])
            block.copy_(gradient)
        self._add_to_head(table, hidden.to(self._dtype))
        return (table @ self._weight).to(hidden.dtype)

    def _add_to_head(self, table: Tensor, hidden: Tensor) -> None:
        weight, bias = self._head.weight, self._head.bias
        if weight.requires_grad:
            size = _by_device(_WORDS_TOGETHER, self._device)
            parts = torch.split(gradient_of(weight), size)
            for words, part in zip(torch.split(table, size, dim=1), parts, strict=True):
                if part.dtype == words.dtype:
                    part.addmm_(words.T, hidden)
                else:
                    part.add_(words.T @ hidden)
        if bias is not None and bias.requires_grad:
            gradient_of(bias).add_(table.sum(dim=0, dtype=bias.dtype))


def _blocks(table: Tensor, by_row: Tensor | None = None) -> Sequence[Tensor]:
    """The table, or what belongs to its rows, a few rows at a time."""
    rows = _by_device(_BLOCK_BYTES, table.device.type) // (4 * table.shape[1])
    return torch.split(table if by_row is None else by_row, max(1, rows))


def gradient_of(parameter: Tensor) -> Tensor:
    """The parameter's gradient, to be added to; zeros at first."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _by_device(table: dict[str, int], device: str) -> int:
    return table.get(device, table["cpu"])
