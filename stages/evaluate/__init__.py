"""evaluate: benchmarks of the policy and its baseline, and the win rate of one over the other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from evals.judges import JudgeKind
from evals.models.checkpoints import ModelSource
from evals.models.samplers import AutoSampler, SamplerConfig, SamplingSettings
from evals.win_rate import Measure
from schemas.stage import Stage, StageContext
from schemas.work import Known, Work, at_most


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
        (),
        description="inspect tasks, for both models: instruction_following, preference_accuracy, "
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
        if taken := sorted({"policy", "baseline"} & set(value)):
            raise ValueError(f"{taken[0]} is a model of every evaluation; use another name")
        return value

    @property
    def settings(self) -> SamplingSettings:
        """The sampling settings alone."""
        return SamplingSettings(**{k: getattr(self, k) for k in SamplingSettings.model_fields})


def run(config: EvaluateConfig, context: StageContext) -> Mapping[str, int]:
    """Sample both models on the test prompts, run the tasks, judge, and write the results."""
    from stages.evaluate.flow import evaluate

    return evaluate(config, context)


def _files(config: EvaluateConfig) -> Sequence[Path]:
    further = config.compare_with.values()
    named = [s for s in (config.policy, config.baseline, *further) if s is not None]
    return [path for source in named for path in source.files()]


def _work(config: EvaluateConfig, known: Known) -> Work:
    prompts = at_most(known.get("ingest", {}).get("prompts/test"), config.max_prompts)
    if prompts is None:
        return Work("verdicts")
    judges = ("judge" in known) + (config.truth is not None)
    models = 2 + len(config.compare_with)
    completions = prompts * config.n
    return Work("verdicts", 2 * judges * completions, models * completions * config.max_tokens)


STAGE = Stage(
    name="evaluate",
    summary="benchmarks and win rate of the policy against its baseline on held-out prompts",
    config=EvaluateConfig,
    inputs=("ingest", "sft", "judge", "train"),
    run=run,
    version=4,
    files=_files,
    work=_work,
)
