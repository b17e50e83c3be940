"""What benchmarks.json says of a task: one entry per measure, and policy less baseline, paired."""

from collections.abc import Iterator

from evals.benchmarks.run import BenchmarkRun
from evals.statistics.conclusions import no_worse
from evals.statistics.estimates import paired_difference
from schemas.results.benchmarks import PairedResult, TaskResult


def task_entries(about: TaskResult, run: BenchmarkRun) -> Iterator[TaskResult]:
    """One entry per metric of each scorer; one without numbers where the task failed.

    Args:
        about: what all entries have in common: task, model, fingerprint and log.
        run: what was measured, or why it could not be.
    """
    about = about.model_copy(update={"n_truncated": run.n_truncated, "error": run.error})
    if run.error is not None:
        yield about
    for measured in run.measured:
        numbers = measured.estimate()
        yield about.model_copy(
            update={
                "scorer": measured.scorer,
                "metric": measured.metric,
                **dict(numbers),
                "n_unscored": measured.n_unscored,
            }
        )


def paired_entries(
    task: str, model: str, run: BenchmarkRun, baseline: BenchmarkRun, margin: float | None
) -> Iterator[PairedResult]:
    """One model minus baseline for each measure that both have scores per sample of.

    `margin` is what was declared to be no worse.
    """
    of_baseline = {(m.scorer, m.metric): m.scores for m in baseline.measured}
    for measured in run.measured:
        other = of_baseline.get((measured.scorer, measured.metric), {})
        found = paired_difference(measured.scores, other, measured.clusters)
        if found is not None and found.value is not None:
            yield PairedResult(
                task=task,
                model=model,
                scorer=measured.scorer,
                metric=measured.metric,
                difference=found.value,
                standard_error=found.standard_error,
                ci_low=found.ci_low,
                ci_high=found.ci_high,
                n=found.n,
                margin=margin,
                conclusion=margin and no_worse(found.ci_low, found.ci_high, margin),
            )
