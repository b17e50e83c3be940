"""The LM head with its loss: logits exist for one tile of completion tokens at a time.

A tile holds whole items, so the derivative of the loss by each log-probability is known while the
tile is alive: the logits turn in place into their own gradient, which is multiplied into the
gradients of the hidden states and of the head's weight, and dropped.
"""

from typing import TYPE_CHECKING

from evals.models.checkpoints import Dtype

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Completion tokens of a tile. More make the matrix products a little faster and the peak higher.
TILE_TOKENS = 512

# Rows that are normalised together: at 32k words they fit into a core's cache.
_BLOCK_ROWS = 8


class FusedHead:
    """A linear LM head as torch's autocast would run it, in `dtype`."""

    def __init__(self, head: "torch.nn.Linear", dtype: Dtype) -> None:
        """The head's weight is (vocabulary, hidden); it is cast once for all tiles."""
        import torch

        self._head = head
        self._dtype = getattr(torch, dtype)
        self._weight = head.weight.detach().to(self._dtype)
        self._bias = None if head.bias is None else head.bias.detach().to(self._dtype)

    def log_softmax(self, hidden: "Tensor") -> "Tensor":
        """Log-probabilities of every word after hidden states (k, hidden): float32 (k, words)."""
        import torch
        import torch.nn.functional as F

        table = F.linear(hidden.to(self._dtype), self._weight, self._bias).float()
        for block in torch.split(table, _BLOCK_ROWS):
            block.sub_(block.logsumexp(dim=-1, keepdim=True))
        return table

    def backward(
        self, hidden: "Tensor", table: "Tensor", targets: "Tensor", slopes: "Tensor"
    ) -> "Tensor":
        """Gradient of the hidden states (k, hidden); adds those of the head where it is trained.

        `table` is what `log_softmax` gave and is overwritten; `slopes` (k,) are the derivatives
        of the loss by the log-probability of each target: d loss / d logits is
        slope * (one-hot(target) - softmax).
        """
        import torch

        slopes = slopes.float().unsqueeze(1)
        blocks = zip(torch.split(table, _BLOCK_ROWS), torch.split(slopes, _BLOCK_ROWS), strict=True)
        for block, slope in blocks:
            block.exp_().mul_(-slope)
        table.scatter_add_(1, targets.unsqueeze(1), slopes)
        logits_gradient = table.to(self._dtype)
        self._add_to_head(logits_gradient, hidden.to(self._dtype))
        return (logits_gradient @ self._weight).to(hidden.dtype)

    def _add_to_head(self, logits_gradient: "Tensor", hidden: "Tensor") -> None:
        weight, bias = self._head.weight, self._head.bias
        if weight.requires_grad:
            gradient = _gradient(weight)
            if gradient.dtype == hidden.dtype:
                gradient.addmm_(logits_gradient.T, hidden)
            else:
                gradient.add_(logits_gradient.T @ hidden)
        if bias is not None and bias.requires_grad:
            _gradient(bias).add_(logits_gradient.sum(dim=0, dtype=bias.dtype))


def _gradient(parameter: "Tensor") -> "Tensor":
    import torch

    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
