"""Settings of train."""

from typing import Annotated

from pydantic import Field, model_validator

from evals.models.checkpoints import ModelSource
from schemas.stage import Config
from stages.training.checkpoints.config import BestCheckpoint, Publish
from stages.training.config import TrainingConfig
from stages.training.data.config import (
    EqualWeights,
    LengthControl,
    PairWeights,
    TopPairs,
    WhichPairs,
)
from stages.training.losses.config import FollowsPolicy, KtoLoss, Loss, SigmoidLoss
from stages.training.monitoring.config import GenerationSettings, GuardSettings


class TrainConfig(Config):
    """DPO on the pairs of label, or on people's comparisons where the recipe has no label."""

    model: ModelSource | None = Field(
        None, description="the policy to start from; null takes the model of [sft]"
    )
    reference: ModelSource | None = Field(
        None, description="the reference policy; null takes the start of the policy"
    )
    loss: Loss = Field(
        SigmoidLoss(),
        description="sigmoid (DPO), ipo, hinge, length_normalised, simpo, orpo, apo_zero, "
        "apo_down, exo, nca, sppo, discopop, aot, bco, kto (single completions), or combined "
        "(several with weights)",
    )
    follow: FollowsPolicy | None = Field(
        None,
        description="TR-DPO: let the reference follow the policy; its pairs are then scored again "
        "at every step (about a third more computation). null: it stays what it was",
    )
    pairs: WhichPairs = Field(
        "auto",
        description="which pairs: sampled (of label, on policy), given (people's comparisons of "
        "ingest), both of them mixed, or auto: label's where the recipe has it, else the given",
    )
    repeat: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {},
        description="how often a pass sees the pairs of a source, as in { hh = 0.5, sampled = 2 }: "
        "its name in [ingest], a judge's name, or sampled for all pairs of label; 0.5 is half of "
        "them, 0 none",
    )
    lengths: LengthControl = Field(
        LengthControl(), description="training pairs by how their completions differ in length"
    )
    top: TopPairs | None = Field(None, description="train on the clearest pairs only; null: on all")
    weights: PairWeights = Field(
        EqualWeights(), description="how much each pair counts: none, margin or strength"
    )
    training: TrainingConfig = Field(TrainingConfig(), description="how to train")
    # Of no training by itself, so no part of what one was made of.
    seeds: tuple[int, ...] = Field(
        (),
        exclude=True,
        description="train once with each of these seeds on the same tables: the report then says "
        "what another training would move; the first one's policy is published",
    )
    publish: Publish = Field(
        BestCheckpoint(), description="which checkpoint is published: best by a measure, or last"
    )
    keep_checkpoints: int = Field(
        1,
        ge=1,
        description="how many of the best checkpoints are kept, the published one among them; the "
        "last one is kept besides",
    )
    generations: GenerationSettings = Field(
        GenerationSettings(), description="what the policy is let write at every evaluation"
    )
    guard: GuardSettings = Field(GuardSettings(), description="when to warn")

    @model_validator(mode="after")
    def _singles_are_no_pairs(self) -> "TrainConfig":
        if isinstance(self.loss, KtoLoss) and not isinstance(self.weights, EqualWeights):
            raise ValueError("weights: kto looks at single completions; weights of pairs are none")
        if isinstance(self.loss, KtoLoss) and self.loss.tail_weight != 1:
            raise ValueError("loss.tail_weight: kto has no pairs whose lengths could be compared")
        if isinstance(self.loss, KtoLoss) and self.repeat:
            raise ValueError("repeat: kto sees every completion once a pass")
        return self
