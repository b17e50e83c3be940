"""Preference losses: pure functions of summed log-probabilities, picked by settings.

Notation: a log-ratio is log pi(y|x) - log pi_ref(y|x) summed over the completion's tokens, its end
included (nats); the gap is the chosen completion's log-ratio less the rejected one's. All
functions map float tensors (n,) to losses (n,), one per pair.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from stages.training.losses.config import (
    HingeLoss,
    IpoLoss,
    LengthNormalisedLoss,
    OrpoLoss,
    PairLoss,
    SigmoidLoss,
    SimpoLoss,
)


@dataclass(frozen=True)
class PairLogps:
    """Of n pairs: summed log-probabilities (n,) of both completions, and their token counts."""

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor

    @property
    def chosen_log_ratio(self) -> Tensor:
        """log pi - log pi_ref of the chosen completion (n,)."""
        return self.chosen - self.reference_chosen

    @property
    def rejected_log_ratio(self) -> Tensor:
        """log pi - log pi_ref of the rejected completion (n,)."""
        return self.rejected - self.reference_rejected

    @property
    def gap(self) -> Tensor:
        """Chosen log-ratio less rejected log-ratio (n,): zero before the first step."""
        return self.chosen_log_ratio - self.rejected_log_ratio

    @property
    def per_token(self) -> tuple[Tensor, Tensor]:
        """Mean log-probability of a token of the chosen and of the rejected completion (n,)."""
        return self.chosen / self.chosen_tokens, self.rejected / self.rejected_tokens

    @property
    def gap_per_token(self) -> Tensor:
        """The gap with each log-ratio divided by its completion's tokens (n,)."""
        chosen = self.chosen_log_ratio / self.chosen_tokens
        return chosen - self.rejected_log_ratio / self.rejected_tokens


def sigmoid_loss(gap: Tensor, beta: float) -> Tensor:
    """-log sigmoid(beta * gap). Rafailov et al. 2023 (DPO, arXiv:2305.18290), eq. 7."""
    return -F.logsigmoid(beta * gap)


def conservative_sigmoid_loss(gap: Tensor, beta: float, epsilon: float) -> Tensor:
    """(1 - e) * L(gap) + e * L(-gap), L the sigmoid loss: labels are wrong with probability e.

    Mitchell 2023, "A note on DPO with noisy preferences and relationship to IPO" (cDPO), eq. 3.
    """
    return (1 - epsilon) * sigmoid_loss(gap, beta) + epsilon * sigmoid_loss(-gap, beta)


def robust_sigmoid_loss(gap: Tensor, beta: float, epsilon: float) -> Tensor:
    """((1 - e) * L(gap) - e * L(-gap)) / (1 - 2e): the sigmoid loss without label noise's bias.

    Chowdhury, Kini and Natarajan 2024 (robust DPO, arXiv:2403.00409), eq. 12.
    """
    clean, flipped = sigmoid_loss(gap, beta), sigmoid_loss(-gap, beta)
    return ((1 - epsilon) * clean - epsilon * flipped) / (1 - 2 * epsilon)


def ipo_loss(gap: Tensor, beta: float) -> Tensor:
    """(gap - 1 / (2 * beta))^2. Azar et al. 2023 (IPO, arXiv:2310.12036), eq. 17, tau = beta."""
    return (gap - 1 / (2 * beta)).square()


def hinge_loss(gap: Tensor, beta: float) -> Tensor:
    """max(0, 1 - beta * gap).

    Zhao et al. 2023 (SLiC-HF, arXiv:2305.10425), eq. 1, on log-ratios as in Liu et al. 2023 (RSO,
    arXiv:2309.06657), eq. 8.
    """
    return (1 - beta * gap).relu()


def simpo_loss(chosen: Tensor, rejected: Tensor, beta: float, margin: float) -> Tensor:
    """-log sigmoid(beta * (chosen - rejected) - margin), of log-probabilities per token.

    Meng, Xia and Chen 2024 (SimPO, arXiv:2405.14734), eq. 6, margin = gamma.
    """
    return -F.logsigmoid(beta * (chosen - rejected) - margin)


def orpo_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """-chosen - beta * log sigmoid(log odds(chosen) - log odds(rejected)), per token.

    log odds(l) = l - log(1 - exp(l)); l is bounded by -1e-6, where the odds would be infinite.
    Hong, Lee and Thorne 2024 (ORPO, arXiv:2403.07691), eq. 6 and 7, beta = lambda.
    """
    odds = [mean - (-mean.clamp(max=-1e-6).expm1()).log() for mean in (chosen, rejected)]
    return -chosen - beta * F.logsigmoid(odds[0] - odds[1])


def rpo_term(chosen: Tensor, chosen_tokens: Tensor) -> Tensor:
    """-log pi(chosen) per token: keeps the chosen completion, its end included, likely.

    Pang et al. 2024 (iterative RPO, arXiv:2404.19733), eq. 1, second term.
    """
    return -chosen / chosen_tokens


Term = Callable[[Any, PairLogps], Tensor]


def _sigmoid(loss: SigmoidLoss, logps: PairLogps) -> Tensor:
    smoothed = {"conservative": conservative_sigmoid_loss, "robust": robust_sigmoid_loss}
    return smoothed[loss.smoothing](logps.gap, loss.beta, loss.label_smoothing)


def _ipo(loss: IpoLoss, logps: PairLogps) -> Tensor:
    return ipo_loss(logps.gap_per_token if loss.per_token else logps.gap, loss.beta)


def _simpo(loss: SimpoLoss, logps: PairLogps) -> Tensor:
    return simpo_loss(*logps.per_token, loss.beta, loss.margin)


TERMS: Mapping[type[PairLoss], Term] = {
    SigmoidLoss: _sigmoid,
    IpoLoss: _ipo,
    HingeLoss: lambda loss, logps: hinge_loss(logps.gap, loss.beta),
    LengthNormalisedLoss: lambda loss, logps: sigmoid_loss(logps.gap_per_token, loss.beta),
    SimpoLoss: _simpo,
    OrpoLoss: lambda loss, logps: orpo_loss(*logps.per_token, loss.beta),
}
"""The preference term of each kind of loss: (n,), from its settings and n pairs."""


def preference_term(loss: PairLoss, logps: PairLogps) -> Tensor:
    """The loss of each pair (n,) without the RPO term."""
    return TERMS[type(loss)](loss, logps)


def pair_loss(loss: PairLoss, logps: PairLogps) -> Tensor:
    """The loss of each pair (n,)."""
    term = preference_term(loss, logps)
    if loss.rpo_alpha:
        term = term + loss.rpo_alpha * rpo_term(logps.chosen, logps.chosen_tokens)
    return term
