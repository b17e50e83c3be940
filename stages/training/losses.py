"""Preference losses: pure functions of summed log-probabilities, and the settings that pick one.

Notation: a log-ratio is log pi(y|x) - log pi_ref(y|x) summed over the completion's tokens, its end
included (nats); the gap is the chosen completion's log-ratio less the rejected one's. All
functions map float tensors (n,) to losses (n,), one per pair.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from schemas.stage import Config

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PairLogps:
    """Of n pairs: summed log-probabilities (n,) of both completions, and their token counts."""

    chosen: "Tensor"
    rejected: "Tensor"
    reference_chosen: "Tensor"
    reference_rejected: "Tensor"
    chosen_tokens: "Tensor"
    rejected_tokens: "Tensor"

    @property
    def chosen_log_ratio(self) -> "Tensor":
        """log pi - log pi_ref of the chosen completion (n,)."""
        return self.chosen - self.reference_chosen

    @property
    def rejected_log_ratio(self) -> "Tensor":
        """log pi - log pi_ref of the rejected completion (n,)."""
        return self.rejected - self.reference_rejected

    @property
    def gap(self) -> "Tensor":
        """Chosen log-ratio less rejected log-ratio (n,): zero before the first step."""
        return self.chosen_log_ratio - self.rejected_log_ratio

    @property
    def gap_per_token(self) -> "Tensor":
        """The gap with each log-ratio divided by its completion's tokens (n,)."""
        chosen = self.chosen_log_ratio / self.chosen_tokens
        return chosen - self.rejected_log_ratio / self.rejected_tokens


def sigmoid_loss(gap: "Tensor", beta: float) -> "Tensor":
    """-log sigmoid(beta * gap). Rafailov et al. 2023 (DPO, arXiv:2305.18290), eq. 7."""
    import torch.nn.functional as F

    return -F.logsigmoid(beta * gap)


def conservative_sigmoid_loss(gap: "Tensor", beta: float, epsilon: float) -> "Tensor":
    """(1 - e) * L(gap) + e * L(-gap), L the sigmoid loss: labels are wrong with probability e.

    Mitchell 2023, "A note on DPO with noisy preferences and relationship to IPO" (cDPO), eq. 3.
    """
    return (1 - epsilon) * sigmoid_loss(gap, beta) + epsilon * sigmoid_loss(-gap, beta)


def robust_sigmoid_loss(gap: "Tensor", beta: float, epsilon: float) -> "Tensor":
    """((1 - e) * L(gap) - e * L(-gap)) / (1 - 2e): the sigmoid loss without label noise's bias.

    Chowdhury, Kini and Natarajan 2024 (robust DPO, arXiv:2403.00409), eq. 12.
    """
    clean, flipped = sigmoid_loss(gap, beta), sigmoid_loss(-gap, beta)
    return ((1 - epsilon) * clean - epsilon * flipped) / (1 - 2 * epsilon)


def ipo_loss(gap: "Tensor", beta: float) -> "Tensor":
    """(gap - 1 / (2 * beta))^2. Azar et al. 2023 (IPO, arXiv:2310.12036), eq. 17, tau = beta."""
    return (gap - 1 / (2 * beta)).square()


def hinge_loss(gap: "Tensor", beta: float) -> "Tensor":
    """max(0, 1 - beta * gap).

    Zhao et al. 2023 (SLiC-HF, arXiv:2305.10425), eq. 1, on log-ratios as in Liu et al. 2023 (RSO,
    arXiv:2309.06657), eq. 8.
    """
    return (1 - beta * gap).relu()


def simpo_loss(chosen: "Tensor", rejected: "Tensor", beta: float, margin: float) -> "Tensor":
    """-log sigmoid(beta * (chosen - rejected) - margin), of log-probabilities per token.

    Meng, Xia and Chen 2024 (SimPO, arXiv:2405.14734), eq. 6, margin = gamma.
    """
    import torch.nn.functional as F

    return -F.logsigmoid(beta * (chosen - rejected) - margin)


def orpo_loss(chosen: "Tensor", rejected: "Tensor", beta: float) -> "Tensor":
    """-chosen - beta * log sigmoid(log odds(chosen) - log odds(rejected)), per token.

    log odds(l) = l - log(1 - exp(l)); l is bounded by -1e-6, where the odds would be infinite.
    Hong, Lee and Thorne 2024 (ORPO, arXiv:2403.07691), eq. 6 and 7, beta = lambda.
    """
    import torch.nn.functional as F

    odds = [mean - (-mean.clamp(max=-1e-6).expm1()).log() for mean in (chosen, rejected)]
    return -chosen - beta * F.logsigmoid(odds[0] - odds[1])


def rpo_term(chosen: "Tensor", chosen_tokens: "Tensor") -> "Tensor":
    """-log pi(chosen) per token: keeps the chosen completion, its end included, likely.

    Pang et al. 2024 (iterative RPO, arXiv:2404.19733), eq. 1, second term.
    """
    return -chosen / chosen_tokens


class PairLoss(Config):
    """What every preference loss has."""

    beta: float = Field(0.1, gt=0, description="strength of the tie to the reference policy")
    rpo_alpha: float = Field(
        0.0, ge=0, description="weight of the chosen completion's NLL per token, added to the loss"
    )

    def preference_term(self, logps: PairLogps) -> "Tensor":
        """The loss without the RPO term (n,)."""
        raise NotImplementedError

    def __call__(self, logps: PairLogps) -> "Tensor":
        """The loss of each pair (n,)."""
        loss = self.preference_term(logps)
        if self.rpo_alpha:
            loss = loss + self.rpo_alpha * rpo_term(logps.chosen, logps.chosen_tokens)
        return loss


class SigmoidLoss(PairLoss):
    """DPO, with label smoothing where the labels are noisy."""

    kind: Literal["sigmoid"] = "sigmoid"
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="probability that a label is wrong"
    )
    smoothing: Literal["conservative", "robust"] = Field(
        "conservative", description="how the smoothing enters: cDPO or robust DPO"
    )

    def preference_term(self, logps: PairLogps) -> "Tensor":
        """See `sigmoid_loss`, `conservative_sigmoid_loss`, `robust_sigmoid_loss`."""
        smoothed = {"conservative": conservative_sigmoid_loss, "robust": robust_sigmoid_loss}
        return smoothed[self.smoothing](logps.gap, self.beta, self.label_smoothing)


class IpoLoss(PairLoss):
    """IPO: pulls the gap to 1 / (2 beta) instead of without end."""

    kind: Literal["ipo"] = "ipo"
    per_token: bool = Field(
        False,
        description="take log-ratios per token, as TRL does, so that beta means the same for "
        "short and long completions",
    )

    def preference_term(self, logps: PairLogps) -> "Tensor":
        """See `ipo_loss`."""
        return ipo_loss(logps.gap_per_token if self.per_token else logps.gap, self.beta)


class HingeLoss(PairLoss):
    """SLiC's hinge on log-ratios."""

    kind: Literal["hinge"] = "hinge"

    def preference_term(self, logps: PairLogps) -> "Tensor":
        """See `hinge_loss`."""
        return hinge_loss(logps.gap, self.beta)


class LengthNormalisedLoss(PairLoss):
    """DPO on log-ratios per token, so that long completions weigh no more than short ones.

    Lambert et al. 2024 (Tulu 3, arXiv:2411.15124), eq. 6.
    """

    kind: Literal["length_normalised"] = "length_normalised"
    beta: float = Field(5.0, gt=0, description="strength of the tie to the reference policy")

    def preference_term(self, logps: PairLogps) -> "Tensor":
        """See `sigmoid_loss`, with the gap per token."""
        return sigmoid_loss(logps.gap_per_token, self.beta)


class SimpoLoss(PairLoss):
    """SimPO: mean log-probabilities with a target margin; the reference is only reported."""

    kind: Literal["simpo"] = "simpo"
    beta: float = Field(2.0, gt=0, description="scale of the mean log-probabilities")
    margin: float = Field(1.0, ge=0, description="by how much chosen is to be ahead (gamma)")

    def preference_term(self, logps: PairLogps) -> "Tensor":
        """See `simpo_loss`."""
        chosen = logps.chosen / logps.chosen_tokens
        return simpo_loss(chosen, logps.rejected / logps.rejected_tokens, self.beta, self.margin)


class OrpoLoss(PairLoss):
    """ORPO: likelihood of chosen and an odds ratio; the reference is only reported."""

    kind: Literal["orpo"] = "orpo"
    beta: float = Field(0.1, gt=0, description="weight of the odds ratio (lambda)")

    def preference_term(self, logps: PairLogps) -> "Tensor":
        """See `orpo_loss`."""
        chosen = logps.chosen / logps.chosen_tokens
        return orpo_loss(chosen, logps.rejected / logps.rejected_tokens, self.beta)


Loss = Annotated[
    SigmoidLoss | IpoLoss | HingeLoss | LengthNormalisedLoss | SimpoLoss | OrpoLoss,
    Field(discriminator="kind"),
]
