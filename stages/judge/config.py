"""Settings of judge."""

from typing import ClassVar

from pydantic import Field, model_validator

from evals.judge_card.config import JudgeFloors
from evals.judges import JudgeKind, PreferenceModelJudge, RewardModelJudge
from schemas.stage import Config
from stages.training.config import TrainingConfig


class RewardTraining(Config):
    """How a reward_model is trained."""

    centring: float = Field(
        0.0, ge=0, description="weight of (sum of both rewards)^2, which keeps rewards around zero"
    )
    margin: float = Field(
        0.0,
        ge=0,
        description="by how much the chosen reward is to be ahead, times the strength of the "
        "preference where the data say one",
    )


class JudgeConfig(JudgeFloors):
    """Which judge, how it is trained, on how many comparisons it is measured, and its floors."""

    written_flat: ClassVar[str | None] = "judge"

    judge: JudgeKind = Field(description="the judge; its kind decides what else it takes")
    training: TrainingConfig | None = Field(
        None,
        description="train the preference_model or reward_model on ingest's labelled train "
        "comparisons",
    )
    rewards: RewardTraining = Field(
        RewardTraining(), description="how a reward_model is trained (Bradley-Terry)"
    )
    fresh_weights: bool = Field(
        False,
        description="training forgets what the model has learned and begins from random weights: "
        "for one so small that what it has learned stands in the way",
    )
    max_card_comparisons: int | None = Field(
        2000, ge=1, description="held-out comparisons that the judge card takes; null takes all"
    )

    attacks: int | None = Field(
        None,
        ge=1,
        description="held-out pairs (50 is a good number) on which the card measures how far texts "
        "that speak to the judge move it: some 120 verdicts each; the price of a judge that is "
        "paid for is said first",
    )

    @model_validator(mode="after")
    def _training_needs_a_model(self) -> "JudgeConfig":
        if not isinstance(self.judge, PreferenceModelJudge):
            if self.training is not None and not isinstance(self.judge, RewardModelJudge):
                raise ValueError(
                    f"training: a judge of kind {self.judge.kind} cannot be trained; "
                    "leave the section out, or use kind preference_model or reward_model"
                )
        elif self.training is None and self.judge.model is None:
            raise ValueError(
                "judge.model: name the preference_model, or add a training section to make one"
            )
        return self
