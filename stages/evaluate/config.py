"""Settings of evaluate."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from evals.judges import JudgeKind
from evals.models.checkpoints import ModelSource
from evals.models.samplers import AutoSampler, SamplerConfig, SamplingSettings
from schemas.results.win_rates import Measure

POLICY, BASELINE = "policy", "baseline"


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
    split: Literal["dev", "test"] = Field(
        "test",
        description="the prompts it is measured on: test, to be reported, or dev, to decide by",
    )
    max_prompts: int | None = Field(
        None, ge=1, description="prompts for the win rate; null takes all"
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
        (),
        description="inspect tasks, for all models: instruction_following, preference_accuracy, "
        "judge_bench, pairwise_win_rate, food_preference; any installed (inspect_evals/ifeval); "
        "or a file's (my_tasks.py@mine)",
    )
    task_args: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="arguments of tasks, by task"
    )
    compare_with: dict[Annotated[str, Field(pattern="^[a-z0-9_]+$")], ModelSource] = Field(
        default_factory=dict,
        description="further models by name, such as base, each against the same baseline on the "
        "same prompts",
    )
    epochs: int = Field(1, ge=1, description="completions per sample of a task")
    limit: int | None = Field(None, ge=1, description="samples per task; null takes all")

    @field_validator("compare_with")
    @classmethod
    def _no_namesakes(cls, value: dict[str, ModelSource]) -> dict[str, ModelSource]:
        if taken := sorted({POLICY, BASELINE, "judge"} & set(value)):
            raise ValueError(f"{taken[0]} is a name that every evaluation has; use another")
        return value

    @property
    def settings(self) -> SamplingSettings:
        """The sampling settings alone."""
        return SamplingSettings(**{k: getattr(self, k) for k in SamplingSettings.model_fields})
