"""The loss of direct preference optimization, on tensors of log-probabilities."""

import torch
import torch.nn.functional as F

from schemas.errors import DataError

Tensor = torch.Tensor


def dpo_loss(
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    chosen_ref_logprobs: Tensor,
    rejected_ref_logprobs: Tensor,
    beta: float = 0.1,
) -> Tensor:
    """Mean of -log sigmoid(beta ((log p - log p_ref)(chosen) - (log p - log p_ref)(rejected))).

    Args:
        chosen_logprobs: sums over the tokens of each chosen completion, under the policy [pairs].
        rejected_logprobs: of the rejected ones.
        chosen_ref_logprobs: the same under the reference.
        rejected_ref_logprobs: of the rejected ones.
        beta: how strongly the policy is held to the reference.

    Returns:
        A scalar, which gradients go through. log 2 where the policy is its reference.

    Raises:
        DataError: the four do not have one shape, or are empty.
    """
    margin = _margin(chosen_logprobs, rejected_logprobs, chosen_ref_logprobs, rejected_ref_logprobs)
    return -F.logsigmoid(beta * margin).mean()


def dpo_metrics(
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    chosen_ref_logprobs: Tensor,
    rejected_ref_logprobs: Tensor,
    beta: float = 0.1,
) -> dict[str, float]:
    """What is watched beside the loss: rewards (in units of beta), their margin, the accuracy.

    A pair whose rewards are equal counts as half right.
    """
    parts = (chosen_logprobs, rejected_logprobs, chosen_ref_logprobs, rejected_ref_logprobs)
    margin = beta * _margin(*parts)
    chosen = beta * (chosen_logprobs - chosen_ref_logprobs)
    rejected = beta * (rejected_logprobs - rejected_ref_logprobs)
    right = (margin > 0).float() + (margin == 0).float() / 2
    return {
        "dpo_loss": float(-F.logsigmoid(margin).mean()),
        "accuracy": float(right.mean()),
        "margin": float(margin.mean()),
        "chosen_reward": float(chosen.mean()),
        "rejected_reward": float(rejected.mean()),
    }


def _margin(*parts: Tensor) -> Tensor:
    shapes = [tuple(part.shape) for part in parts]
    if len(set(shapes)) != 1 or not parts[0].numel():
        raise DataError(f"dpo_loss: four tensors of one shape are needed, got {shapes}")
    chosen, rejected, chosen_ref, rejected_ref = parts
    return (chosen - chosen_ref) - (rejected - rejected_ref)
