"""Sample completions of the policy, to be compared and learned from."""

from collections.abc import Mapping

from pydantic import Field

from evals.models.checkpoints import ModelSource
from evals.models.samplers import AutoSampler, SamplerConfig, SamplingSettings
from schemas.stage import Stage, StageContext
from schemas.work import Known, Work, at_most


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


def _run(config: SampleConfig, context: StageContext) -> Mapping[str, int]:
    from stages.sample.flow import run

    return run(config, context)


def _work(config: SampleConfig, known: Known) -> Work:
    found = known.get("ingest", {})
    limits = {"train": config.max_prompts, "test": config.max_test_prompts}
    splits = [at_most(found.get(f"prompts/{name}"), n) for name, n in limits.items()]
    by_split = [n for n in splits if n is not None]
    if len(by_split) < len(limits):
        return Work("completions")
    prompts = sum(by_split)
    completions = prompts * config.n
    counts = {"prompts": prompts, "completions": completions}
    return Work("completions", completions, completions * config.max_tokens, counts)


STAGE = Stage(
    name="sample",
    summary="Sample completions of the policy",
    config=SampleConfig,
    inputs=("ingest", "sft"),
    run=_run,
    version=3,
    files=lambda config: config.model.files() if config.model else (),
    work=_work,
)
