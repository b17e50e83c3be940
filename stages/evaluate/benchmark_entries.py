"""What benchmarks.json says of a task: one entry per measure, and policy less baseline, paired."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from evals.statistics.estimates import paired_difference

if TYPE_CHECKING:
    from evals.benchmarks.run import BenchmarkRun

_NO_NUMBERS = ("scorer", "metric", "value", "standard_error", "ci_low", "ci_high")


def task_entries(
    about: Mapping[str, Any], run: "BenchmarkRun", rest: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """One entry per metric of each scorer; one without numbers where the task failed.

    Args:
        about: what an entry begins with: task and model.
        run: what was measured, or why it could not be.
        rest: what it ends with: fingerprint and log.
    """
    end = {"n_truncated": run.n_truncated, **rest, "error": run.error}
    if run.error is not None:
        yield {**about, **dict.fromkeys(_NO_NUMBERS), "n": 0, "n_unscored": 0, **end}
    for measured in run.measured:
        named = {"scorer": measured.scorer, "metric": measured.metric}
        unscored = {"n_unscored": measured.n_unscored}
        yield {**about, **named, **measured.numbers(), **unscored, **end}


def paired_entries(
    task: str, policy: "BenchmarkRun", baseline: "BenchmarkRun"
) -> Iterator[dict[str, Any]]:
    """Policy minus baseline for each measure that both have scores per sample of."""
    of_baseline = {(m.scorer, m.metric): m.scores for m in baseline.measured}
    for measured in policy.measured:
        other = of_baseline.get((measured.scorer, measured.metric), {})
        difference = paired_difference(measured.scores, other, measured.clusters)
        if difference is not None:
            numbers = difference.to_json()
            yield {
                "task": task,
                "scorer": measured.scorer,
                "metric": measured.metric,
                "difference": numbers.pop("value"),
                **numbers,
            }
