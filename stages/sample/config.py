"""Settings of sample."""

from typing import Any, Self

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, model_validator

from evals.models.checkpoints import ModelSource
from evals.models.samplers import AutoSampler, SamplerConfig, SamplingSettings

OLD_NAME, NEW_NAME = "max_test_prompts", "max_dev_prompts"


class SampleConfig(SamplingSettings):
    """How many completions of which prompts, and from what distribution."""

    sampler: SamplerConfig = Field(AutoSampler(), description="the engine")
    model: ModelSource | None = Field(
        None, description="the policy, where the recipe has no [sft]; null takes what [sft] made"
    )
    outputs: tuple[str, ...] = Field(
        (),
        description="files of completions to take in place of sampling: outputs of other "
        "programs (JSONL, JSON, CSV, Parquet), several of a prompt or one file a model; they bring "
        "their prompts, and nothing below is asked for then",
    )
    n: int = Field(4, ge=1, description="completions of each prompt")
    max_prompts: int | None = Field(
        None, ge=1, description="training prompts to sample; null takes all"
    )
    max_dev_prompts: int | None = Field(
        0, ge=0, description="dev prompts to sample, for held-out pairs; null takes all"
    )
    shard_size: int = Field(
        256,
        ge=1,
        description="prompts between two checkpoints; a killed run repeats at most these, and "
        "vLLM's batch runs empty once for each",
    )

    _old_name: bool = PrivateAttr(False)

    @model_validator(mode="wrap")
    @classmethod
    def _renamed(cls, values: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        """Read the name from when the only held-out prompts were those of the test split."""
        is_old = isinstance(values, dict) and OLD_NAME in values and NEW_NAME not in values
        if is_old:
            values = {NEW_NAME if key == OLD_NAME else key: v for key, v in values.items()}
        config = read(values)
        config._old_name = is_old or config._old_name
        return config

    @property
    def notes(self) -> list[str]:
        """What the person who wrote the settings should know."""
        if not self._old_name:
            return []
        return [f"sample.{OLD_NAME} is {NEW_NAME} now: test prompts are for evaluate alone"]

    @property
    def settings(self) -> SamplingSettings:
        """The distribution alone."""
        return SamplingSettings(**{n: getattr(self, n) for n in SamplingSettings.model_fields})
