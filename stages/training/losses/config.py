"""Settings that pick a preference loss."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.stage import Config


class PairLoss(Config):
    """What every preference loss has."""

    beta: float = Field(0.1, gt=0, description="strength of the tie to the reference policy")
    rpo_alpha: float = Field(
        0.0, ge=0, description="weight of the chosen completion's NLL per token, added to the loss"
    )


class SigmoidLoss(PairLoss):
    """DPO, with label smoothing where the labels are noisy."""

    kind: Literal["sigmoid"] = "sigmoid"
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="probability that a label is wrong"
    )
    smoothing: Literal["conservative", "robust"] = Field(
        "conservative", description="how the smoothing enters: cDPO or robust DPO"
    )


class IpoLoss(PairLoss):
    """IPO: pulls the gap to 1 / (2 beta) instead of without end."""

    kind: Literal["ipo"] = "ipo"
    per_token: bool = Field(
        False,
        description="take log-ratios per token, as TRL does, so that beta means the same for "
        "short and long completions",
    )


class HingeLoss(PairLoss):
    """SLiC's hinge on log-ratios."""

    kind: Literal["hinge"] = "hinge"


class LengthNormalisedLoss(PairLoss):
    """DPO on log-ratios per token, so that long completions weigh no more than short ones.

    Lambert et al. 2024 (Tulu 3, arXiv:2411.15124), eq. 6.
    """

    kind: Literal["length_normalised"] = "length_normalised"
    beta: float = Field(5.0, gt=0, description="strength of the tie to the reference policy")


class SimpoLoss(PairLoss):
    """SimPO: mean log-probabilities with a target margin; the reference is only reported."""

    kind: Literal["simpo"] = "simpo"
    beta: float = Field(2.0, gt=0, description="scale of the mean log-probabilities")
    margin: float = Field(1.0, ge=0, description="by how much chosen is to be ahead (gamma)")


class OrpoLoss(PairLoss):
    """ORPO: likelihood of chosen and an odds ratio; the reference is only reported."""

    kind: Literal["orpo"] = "orpo"
    beta: float = Field(0.1, gt=0, description="weight of the odds ratio (lambda)")


Loss = Annotated[
    SigmoidLoss | IpoLoss | HingeLoss | LengthNormalisedLoss | SimpoLoss | OrpoLoss,
    Field(discriminator="kind"),
]
