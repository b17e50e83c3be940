"""Settings of sft."""

from pydantic import Field, model_validator

from evals.models.checkpoints import ModelSource
from schemas.stage import Config
from stages.training.config import TrainingConfig
from stages.training.from_scratch import FromScratch


class SftConfig(Config):
    """Supervised training on the demonstrations of ingest."""

    model: ModelSource | None = Field(None, description="the model to start from")
    from_scratch: FromScratch | None = Field(
        None, description="or the shape of a new model, its tokenizer trained on the spot"
    )
    training: TrainingConfig = Field(TrainingConfig(), description="how to train")

    @model_validator(mode="after")
    def _one_start(self) -> "SftConfig":
        if (self.model is None) == (self.from_scratch is None):
            raise ValueError("give exactly one of model and from_scratch")
        return self
