"""evaluate: benchmarks of the policy and its baseline, and the win rate of one over the other."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from evals.judges import JudgeKind
from evals.models.checkpoints import ModelSource
from evals.models.samplers import AutoSampler, SamplerConfig, SamplingSettings
from evals.win_rate import Measure
from schemas.stage import Stage, StageContext


class EvaluateConfig(SamplingSettings):
    """What is measured on held-out prompts, and how completions are sampled for it."""

    policy: ModelSource | None = Field(
        None, description="the model to evaluate; null takes what [train] has made"
    )
    checkpoint_step: int | None = Field(
        None, ge=1, description="the checkpoint of [train] to take; null takes the published one"
    )
    baseline: ModelSource | None = Field(
        None, description="the model to beat; null takes what training started from"
    )
    sampler: SamplerConfig = Field(
        default_factory=AutoSampler, description="engine that writes the completions"
    )
    n: int = Field(1, ge=1, description="completions per prompt and model for the win rate")
    max_prompts: int | None = Field(
        None, ge=1, description="test prompts for the win rate; null takes all"
    )
    truth: JudgeKind | None = Field(
        None, description="a second judge that is right by definition, such as a rule"
    )
    headline: Measure = Field(
        "win_rate",
        description="the measure that decides, declared before any verdict: win_rate, "
        "length_controlled or discrete",
    )
    tasks: tuple[str, ...] = Field(
        (), description="inspect tasks: food_preference, or any installed (inspect_evals/ifeval)"
    )
    epochs: int = Field(1, ge=1, description="completions per sample of a task")
    limit: int | None = Field(None, ge=1, description="samples per task; null takes all")

    @property
    def settings(self) -> SamplingSettings:
        """The sampling settings alone."""
        return SamplingSettings(**{k: getattr(self, k) for k in SamplingSettings.model_fields})


def run(config: EvaluateConfig, context: StageContext) -> Mapping[str, int]:
    """Sample both models on the test prompts, run the tasks, judge, and write the results."""
    from stages.evaluate.flow import evaluate

    return evaluate(config, context)


def _files(config: EvaluateConfig) -> Sequence[Path]:
    named = [source for source in (config.policy, config.baseline) if source is not None]
    return [path for source in named for path in source.files()]


STAGE = Stage(
    name="evaluate",
    summary="benchmarks and win rate of the policy against its baseline on held-out prompts",
    config=EvaluateConfig,
    inputs=("ingest", "sft", "judge", "train"),
    run=run,
    files=_files,
)
