"""benchmarks.json: every measure of every task, and policy less baseline, paired by sample."""

from typing import Literal

from pydantic import Field

from schemas.results.base import Result

NoWorse = Literal["better", "no worse", "worse", "cannot tell"]


class TaskResult(Result):
    """One metric of one scorer of a task on one model; without numbers where the task failed.

    `model` is who answered: policy, baseline or another model by its name, or judge. Standard error
    and interval are None where the metric is no mean over samples.
    """

    task: str
    model: str
    scorer: str | None = None
    metric: str | None = None
    value: float | None = None
    standard_error: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int = 0
    n_unscored: int = 0
    n_truncated: int = 0
    fingerprint: str | None = None
    log: str | None = None
    error: str | None = None


class PairedResult(Result):
    """One model (`model`) minus the baseline, of one metric, over the samples that both have.

    `margin` is how much worse the recipe calls no worse; `conclusion` what the interval says of
    that: better (above 0), no worse (above -margin), worse (below -margin), or cannot tell; None
    where no margin was declared.
    """

    task: str
    model: str = "policy"
    scorer: str
    metric: str
    difference: float
    standard_error: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int
    margin: float | None = None
    conclusion: NoWorse | None = None


class BenchmarkResults(Result):
    """All of an evaluation's benchmarks."""

    tasks: list[TaskResult] = Field(default_factory=list)
    paired: list[PairedResult] = Field(default_factory=list)


class TaskMeasures(Result):
    """What one log measured, as it stands beside the log."""

    measured: list[TaskResult]
