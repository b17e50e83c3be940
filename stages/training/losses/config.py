"""Settings that pick a preference loss."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.stage import Config

Divergence = Literal["reverse_kl", "forward_kl", "js", "alpha"]


class PairLoss(Config):
    """What every preference loss has."""

    beta: float = Field(0.1, gt=0, description="strength of the tie to the reference policy")
    rpo_alpha: float = Field(
        0.0, ge=0, description="weight of the chosen completion's NLL per token, added to the loss"
    )
    policy_weights: bool = Field(
        False,
        description="WPO: a pair counts as much as the policy would have written both of its "
        "completions",
    )
    tail_weight: float = Field(
        1.0,
        ge=0,
        le=1,
        description="LD-DPO: weight of the tokens by which one completion is longer than the other",
    )

    @property
    def looks_at_batch(self) -> bool:
        """Whether the loss of a pair depends on the other pairs of its optimizer step."""
        return False


class DivergenceLoss(PairLoss):
    """Losses of the gap, which can be that of another divergence than the reverse KL."""

    divergence: Divergence = Field(
        "reverse_kl",
        description="f-DPO: the divergence from the reference: reverse_kl (DPO), forward_kl, js or "
        "alpha",
    )
    divergence_alpha: float = Field(
        0.5, description="of divergence alpha: 1 is reverse_kl, 0 forward_kl"
    )


class SigmoidLoss(DivergenceLoss):
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


class HingeLoss(DivergenceLoss):
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


class ApoZeroLoss(PairLoss):
    """APO-zero: chosen up and rejected down, each by itself; chosen is better than the policy."""

    kind: Literal["apo_zero"] = "apo_zero"


class ApoDownLoss(PairLoss):
    """APO-down: both down, rejected by more; chosen is worse than the policy."""

    kind: Literal["apo_down"] = "apo_down"


class ExoLoss(DivergenceLoss):
    """EXO on pairs: the reverse KL to the labels' distribution."""

    kind: Literal["exo"] = "exo"
    label_smoothing: float = Field(1e-3, gt=0, lt=0.5, description="probability of a wrong label")


class NcaLoss(PairLoss):
    """NCA on pairs: noise contrastive alignment, which keeps chosen from falling."""

    kind: Literal["nca"] = "nca"


class SppoLoss(PairLoss):
    """SPPO with hard labels: chosen's log-ratio to 1 / (2 beta), rejected's to its negative."""

    kind: Literal["sppo"] = "sppo"


class DiscoPopLoss(DivergenceLoss):
    """DiscoPOP: a blend of logistic and exponential loss that was found by search."""

    kind: Literal["discopop"] = "discopop"
    beta: float = Field(0.05, gt=0, description="strength of the tie to the reference policy")
    temperature: float = Field(0.05, gt=0, description="how sharply the two are blended (tau)")


class AotLoss(PairLoss):
    """AOT: chosen is preferred as a whole, sorted over the optimizer step, not pair by pair."""

    kind: Literal["aot"] = "aot"
    paired: bool = Field(
        True, description="sort differences of pairs; false: chosen and rejected each by itself"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="probability that a label is wrong"
    )

    @property
    def looks_at_batch(self) -> bool:
        """See `PairLoss`."""
        return True


class BcoLoss(PairLoss):
    """BCO: a classifier of chosen and rejected, its threshold their mean reward.

    The threshold is that of the step's pairs (`shift = "batch"`), that of all pairs so far
    (`"running"`), or none as in TRL's bco_pair.
    """

    kind: Literal["bco"] = "bco"
    shift: Literal["batch", "running", "none"] = Field(
        "batch",
        description="threshold: the mean reward of the optimizer step, of all steps so far "
        "(running), or none",
    )

    @property
    def looks_at_batch(self) -> bool:
        """See `PairLoss`."""
        return self.shift != "none"


class KtoLoss(PairLoss):
    """KTO: every completion by itself, good or bad, against a baseline of the policy's drift.

    A pair counts as two examples. The baseline is the policy's KL from the reference, estimated on
    completions of other prompts over the whole optimizer step.
    """

    kind: Literal["kto"] = "kto"
    desirable_weight: float = Field(1.0, gt=0, description="weight of good completions")
    undesirable_weight: float = Field(1.0, gt=0, description="weight of bad completions")

    @property
    def looks_at_batch(self) -> bool:
        """See `PairLoss`."""
        return True


class SftLoss(PairLoss):
    """Likelihood of the chosen completion per token: one of several losses, not one by itself."""

    kind: Literal["sft"] = "sft"


_OnPairs = (
    SigmoidLoss
    | IpoLoss
    | HingeLoss
    | LengthNormalisedLoss
    | SimpoLoss
    | OrpoLoss
    | ApoZeroLoss
    | ApoDownLoss
    | ExoLoss
    | NcaLoss
    | SppoLoss
    | DiscoPopLoss
    | AotLoss
    | BcoLoss
)
SingleLoss = Annotated[_OnPairs | SftLoss, Field(discriminator="kind")]


class WeightedLoss(Config):
    """One of several losses."""

    weight: float = Field(1.0, gt=0, description="what its value is multiplied with")
    loss: SingleLoss = Field(description="the loss")


class CombinedLoss(PairLoss):
    """Several losses at once, as MPO has them: their weighted sum. `beta` is for the metrics."""

    kind: Literal["combined"] = "combined"
    losses: tuple[WeightedLoss, ...] = Field(min_length=1, description="the losses and weights")

    @property
    def looks_at_batch(self) -> bool:
        """See `PairLoss`."""
        return any(part.loss.looks_at_batch for part in self.losses)


Loss = Annotated[_OnPairs | KtoLoss | CombinedLoss, Field(discriminator="kind")]


class FollowsPolicy(Config):
    """How a reference follows the policy (TR-DPO)."""

    every: int = Field(512, ge=1, description="optimizer steps between two updates")
    mix: float = Field(
        0.6, gt=0, le=1, description="the policy's share in the new reference; 1 takes its place"
    )
