"""Preference losses: pure functions of summed log-probabilities, picked by settings.

Notation: a log-ratio is log pi(y|x) - log pi_ref(y|x) summed over the completion's tokens, its end
included (nats); the gap is the chosen completion's log-ratio less the rejected one's. All
functions map float tensors (n,) to losses (n,), one per pair.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.training.losses.config import (
    AotLoss,
    ApoDownLoss,
    ApoZeroLoss,
    BcoLoss,
    CombinedLoss,
    DiscoPopLoss,
    Divergence,
    DivergenceLoss,
    ExoLoss,
    HingeLoss,
    IpoLoss,
    KtoLoss,
    LengthNormalisedLoss,
    NcaLoss,
    OrpoLoss,
    PairLoss,
    SftLoss,
    SigmoidLoss,
    SimpoLoss,
    SppoLoss,
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
    chosen_collision: Tensor | None = None
    """Sum over the completion's tokens of log sum_v p(v)^2, where asked for."""
    rejected_collision: Tensor | None = None
    desirable: Tensor | None = None
    """Of single completions (KTO): whether each is good. `rejected` is then another prompt's."""
    running_log_ratio: float | None = None
    """Mean log-ratio of all completions so far, where a loss goes by it."""

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

    def divergence_gap(self, kind: Divergence, alpha: float) -> Tensor:
        """The gap with f'(pi / pi_ref) of a divergence in place of the log-ratio (n,).

        Wang et al. 2023 (f-DPO, arXiv:2309.16240), table 1.
        """
        chosen, rejected = (
            divergence_slope(ratio, kind, alpha)
            for ratio in (self.chosen_log_ratio, self.rejected_log_ratio)
        )
        return chosen - rejected

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


def divergence_slope(log_ratio: Tensor, kind: Divergence, alpha: float) -> Tensor:
    """f'(t) at t = exp(log_ratio), up to a constant, of the f of a divergence."""
    if kind == "reverse_kl" or (kind == "alpha" and abs(alpha - 1) < 1e-6):
        return log_ratio
    if kind == "forward_kl":
        return 1 - (-log_ratio).exp()
    if kind == "js":
        return math.log(2) + F.logsigmoid(log_ratio)
    return (((alpha - 1) * log_ratio).clamp(max=80).exp() - 1) / (alpha - 1)


def apo_zero_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """1 - sigmoid(beta * chosen) + sigmoid(beta * rejected), of log-ratios.

    D'Oosterlinck et al. 2024 (APO, arXiv:2408.06266), eq. 7.
    """
    return (-beta * chosen).sigmoid() + (beta * rejected).sigmoid()


def apo_down_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """sigmoid(beta * chosen) + 1 - sigmoid(beta * (chosen - rejected)). APO, eq. 8."""
    return (beta * chosen).sigmoid() + (-beta * (chosen - rejected)).sigmoid()


def exo_loss(gap: Tensor, beta: float, epsilon: float) -> Tensor:
    """KL of the policy's preference (q, 1 - q), q = sigmoid(beta * gap), to (1 - e, e).

    Ji et al. 2024 (EXO, arXiv:2402.00856), eq. 16.
    """
    log_q, log_other = F.logsigmoid(beta * gap), F.logsigmoid(-beta * gap)
    return log_q.exp() * (log_q - math.log1p(-epsilon)) + log_other.exp() * (
        log_other - math.log(epsilon)
    )


def nca_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """-log s(r_w) - log s(-r_w) / 2 - log s(-r_l) / 2, r = beta * log-ratio.

    Chen et al. 2024 (noise contrastive alignment, arXiv:2402.05369), eq. 13 with two completions.
    """
    up, down = F.logsigmoid(beta * chosen), F.logsigmoid(-beta * chosen)
    return -up - (down + F.logsigmoid(-beta * rejected)) / 2


def sppo_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """(chosen - 1 / (2 beta))^2 + (rejected + 1 / (2 beta))^2, of log-ratios.

    Wu et al. 2024 (SPPO, arXiv:2405.00675), eq. 4.7 with a probability of 1 that chosen wins.
    """
    target = 1 / (2 * beta)
    return (chosen - target).square() + (rejected + target).square()


def discopop_loss(gap: Tensor, beta: float, temperature: float) -> Tensor:
    """(1 - m) * log(1 + exp(-x)) + m * exp(-x), x = beta * gap, m = sigmoid(x / tau).

    Lu et al. 2024 (DiscoPOP, arXiv:2406.08414), eq. 5.
    """
    scaled = beta * gap
    blend = (scaled / temperature).sigmoid()
    return -F.logsigmoid(scaled) * (1 - blend) + (-scaled).exp() * blend


def aot_loss(logps: PairLogps, beta: float, epsilon: float, *, paired: bool) -> Tensor:
    """The smoothed sigmoid loss of differences between sorted values of the whole batch (n,).

    Melnyk et al. 2024 (AOT, arXiv:2406.05882), section 4; the n-th loss is of the n-th smallest.
    """
    if paired:
        above = (logps.chosen - logps.rejected).sort().values
        below = (logps.reference_chosen - logps.reference_rejected).sort().values
    else:
        above = logps.chosen_log_ratio.sort().values
        below = logps.rejected_log_ratio.sort().values
    return conservative_sigmoid_loss(above - below, beta, epsilon)


def bco_loss(logps: PairLogps, beta: float, *, shifted: bool) -> Tensor:
    """-log s(r_w - d) - log s(d - r_l), r = beta * log-ratio, d the mean of all r in the batch.

    Or of all r so far, where these are known. Jung et al. 2024 (BCO, arXiv:2404.04656), eq. 10; d
    is no function of the policy.
    """
    chosen, rejected = beta * logps.chosen_log_ratio, beta * logps.rejected_log_ratio
    threshold: Tensor | float = 0.0
    if shifted and logps.running_log_ratio is not None:
        threshold = beta * logps.running_log_ratio
    elif shifted:
        threshold = torch.cat([chosen, rejected]).mean().detach()
    return -F.logsigmoid(chosen - threshold) - F.logsigmoid(threshold - rejected)


def kto_loss(logps: PairLogps, beta: float, good: float, bad: float) -> Tensor:
    """w_D (1 - s(beta (r - z))) of a good completion, w_U (1 - s(beta (z - r))) of a bad one.

    r is its log-ratio, z the mean log-ratio of completions under prompts that are not theirs, zero
    at least, and no function of the policy. Ethayarajh et al. 2024 (KTO, arXiv:2402.01306), eq. 8.
    """
    if logps.desirable is None:
        raise ValueError("whether completions are good is not known")
    baseline = logps.rejected_log_ratio.mean().clamp(min=0).detach()
    ahead = beta * (logps.chosen_log_ratio - baseline)
    return torch.where(logps.desirable, good * (-ahead).sigmoid(), bad * ahead.sigmoid())


def policy_weight(logps: PairLogps) -> Tensor:
    """exp of the mean over tokens of log p - log sum_v p(v)^2, of both completions' product (n,).

    Zhou et al. 2024 (WPO, arXiv:2406.11827), eq. 2 with sampled alignment; no function of the
    policy.
    """
    if logps.chosen_collision is None or logps.rejected_collision is None:
        raise ValueError("the engine was not asked for collision probabilities")
    chosen = (logps.chosen - logps.chosen_collision) / logps.chosen_tokens
    rejected = (logps.rejected - logps.rejected_collision) / logps.rejected_tokens
    return (chosen + rejected).exp().detach()


def rpo_term(chosen: Tensor, chosen_tokens: Tensor) -> Tensor:
    """-log pi(chosen) per token: keeps the chosen completion, its end included, likely.

    Pang et al. 2024 (iterative RPO, arXiv:2404.19733), eq. 1, second term.
    """
    return -chosen / chosen_tokens


Term = Callable[[Any, PairLogps], Tensor]


def _gap(loss: DivergenceLoss, logps: PairLogps) -> Tensor:
    return logps.divergence_gap(loss.divergence, loss.divergence_alpha)


def _ratios(logps: PairLogps) -> tuple[Tensor, Tensor]:
    return logps.chosen_log_ratio, logps.rejected_log_ratio


def _sigmoid(loss: SigmoidLoss, logps: PairLogps) -> Tensor:
    smoothed = {"conservative": conservative_sigmoid_loss, "robust": robust_sigmoid_loss}
    return smoothed[loss.smoothing](_gap(loss, logps), loss.beta, loss.label_smoothing)


def _ipo(loss: IpoLoss, logps: PairLogps) -> Tensor:
    return ipo_loss(logps.gap_per_token if loss.per_token else logps.gap, loss.beta)


def _exo(loss: ExoLoss, logps: PairLogps) -> Tensor:
    return exo_loss(_gap(loss, logps), loss.beta, loss.label_smoothing)


def _discopop(loss: DiscoPopLoss, logps: PairLogps) -> Tensor:
    return discopop_loss(_gap(loss, logps), loss.beta, loss.temperature)


def _aot(loss: AotLoss, logps: PairLogps) -> Tensor:
    return aot_loss(logps, loss.beta, loss.label_smoothing, paired=loss.paired)


def _combined(loss: CombinedLoss, logps: PairLogps) -> Tensor:
    parts = [part.weight * pair_loss(part.loss, logps) for part in loss.losses]
    return torch.stack(parts).sum(dim=0)


TERMS: Mapping[type[PairLoss], Term] = {
    SigmoidLoss: _sigmoid,
    IpoLoss: _ipo,
    HingeLoss: lambda loss, logps: hinge_loss(_gap(loss, logps), loss.beta),
    LengthNormalisedLoss: lambda loss, logps: sigmoid_loss(logps.gap_per_token, loss.beta),
    SimpoLoss: lambda loss, logps: simpo_loss(*logps.per_token, loss.beta, loss.margin),
    OrpoLoss: lambda loss, logps: orpo_loss(*logps.per_token, loss.beta),
    ApoZeroLoss: lambda loss, logps: apo_zero_loss(*_ratios(logps), loss.beta),
    ApoDownLoss: lambda loss, logps: apo_down_loss(*_ratios(logps), loss.beta),
    ExoLoss: _exo,
    NcaLoss: lambda loss, logps: nca_loss(*_ratios(logps), loss.beta),
    SppoLoss: lambda loss, logps: sppo_loss(*_ratios(logps), loss.beta),
    DiscoPopLoss: _discopop,
    AotLoss: _aot,
    BcoLoss: lambda loss, logps: bco_loss(logps, loss.beta, shifted=loss.shift != "none"),
    KtoLoss: lambda loss, logps: kto_loss(
        logps, loss.beta, loss.desirable_weight, loss.undesirable_weight
    ),
    SftLoss: lambda loss, logps: rpo_term(logps.chosen, logps.chosen_tokens),
    CombinedLoss: _combined,
}
"""The preference term of each kind of loss: (n,), from its settings and n pairs."""


def preference_term(loss: PairLoss, logps: PairLogps) -> Tensor:
    """The loss of each pair (n,) without the RPO term."""
    return TERMS[type(loss)](loss, logps)


def pair_loss(loss: PairLoss, logps: PairLogps) -> Tensor:
    """The loss of each pair (n,)."""
    term = preference_term(loss, logps)
    if loss.policy_weights:
        term = policy_weight(logps) * term
    if loss.rpo_alpha:
        term = term + loss.rpo_alpha * rpo_term(logps.chosen, logps.chosen_tokens)
    return term
