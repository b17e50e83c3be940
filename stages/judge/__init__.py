"""judge: makes a judge, training it where it is a model, and measures it on held-out labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field, model_validator

from evals.judge_floors import JudgeFloors
from evals.judges import JudgeKind, PreferenceModelJudge, judge_model_files
from schemas.stage import Stage, StageContext
from schemas.work import Known, Work, at_most
from stages.training.config import TrainingConfig


class JudgeConfig(JudgeFloors):
    """Which judge, how it is trained, on how many comparisons it is measured, and its floors."""

    judge: JudgeKind = Field(description="the judge; its kind decides what else it takes")
    training: TrainingConfig | None = Field(
        None, description="train the preference_model on ingest's labelled train comparisons"
    )
    max_card_comparisons: int | None = Field(
        2000, ge=1, description="held-out comparisons that the judge card takes; null takes all"
    )

    @model_validator(mode="after")
    def _training_needs_a_model(self) -> "JudgeConfig":
        if not isinstance(self.judge, PreferenceModelJudge):
            if self.training is not None:
                raise ValueError(
                    f"training: a judge of kind {self.judge.kind} cannot be trained; "
                    "leave the section out, or use kind preference_model"
                )
        elif self.training is None and self.judge.model is None:
            raise ValueError(
                "judge.model: name the preference_model, or add a training section to make one"
            )
        return self


def _run(config: JudgeConfig, context: StageContext) -> Mapping[str, int]:
    from stages.judge.flow import run

    return run(config, context)


def _files(config: JudgeConfig) -> Sequence[Path]:
    return judge_model_files(config.judge)


def _work(config: JudgeConfig, known: Known) -> Work:
    held_out = known.get("ingest", {}).get("comparisons/test")
    comparisons = at_most(held_out, config.max_card_comparisons)
    return Work("verdicts", None if comparisons is None else 2 * comparisons)


STAGE = Stage(
    name="judge",
    summary="make a judge of two completions, trained where it is a model, and measure it",
    config=JudgeConfig,
    inputs=("ingest", "sft"),
    run=_run,
    version=4,
    files=_files,
    work=_work,
    trains=lambda config: config.training is not None,
)
