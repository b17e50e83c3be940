"""Settings of sample."""

from pydantic import Field

from evals.models.checkpoints import ModelSource
from evals.models.samplers import AutoSampler, SamplerConfig, SamplingSettings


class SampleConfig(SamplingSettings):
    """How many completions of which prompts, and from what distribution."""

    sampler: SamplerConfig = Field(AutoSampler(), description="the engine")
    model: ModelSource | None = Field(
        None, description="the policy, where the recipe has no [sft]; null takes what [sft] made"
    )
    n: int = Field(4, ge=1, description="completions of each prompt")
    max_prompts: int | None = Field(
        None, ge=1, description="training prompts to sample; null takes all"
    )
    max_test_prompts: int | None = Field(
        0, ge=0, description="held-out prompts to sample, for held-out pairs; null takes all"
    )
    shard_size: int = Field(
        256,
        ge=1,
        description="prompts between two checkpoints; a killed run repeats at most these, and "
        "vLLM's batch runs empty once for each",
    )

    @property
    def settings(self) -> SamplingSettings:
        """The distribution alone."""
        return SamplingSettings(**{n: getattr(self, n) for n in SamplingSettings.model_fields})
