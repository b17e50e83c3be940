"""Run one inspect-ai task on one model and take what it measured out of the log.

Importing this module imports inspect_ai (3 s).
"""

import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.log import EvalLog, EvalSampleReductions, EvalScore, read_eval_log
from inspect_ai.model import Model
from inspect_ai.scorer import value_to_float

from evals.measures import estimate_mean
from evals.provider import MAX_CONNECTIONS
from evals.tasks import TASKS
from schemas.errors import MissingInputError, PipelineError

# What our own standard error of the same scorer's mean says, clustered by sample.
_ERROR_METRICS = frozenset({"stderr"})


@dataclass(frozen=True)
class Measured:
    """One metric of one scorer.

    `scores` are the sample's scores by sample id (means over epochs) where the metric is their
    mean, else empty: only then is there an interval, and a difference to pair.
    """

    scorer: str
    metric: str
    value: float | None
    n: int
    n_unscored: int
    scores: Mapping[str, float] = field(default_factory=dict)

    def numbers(self) -> dict[str, Any]:
        """`value, standard_error, ci_low, ci_high, n`; None where there is no such number."""
        if self.scores:
            return estimate_mean(self.scores).to_json()
        nothing = dict.fromkeys(("standard_error", "ci_low", "ci_high"))
        return {"value": self.value, **nothing, "n": self.n}


@dataclass(frozen=True)
class BenchmarkRun:
    """What a task measured, or why it could not. `n_truncated` counts completions cut short."""

    measured: list[Measured] = field(default_factory=list)
    n_truncated: int = 0
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, from which `from_json` makes the same run."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "BenchmarkRun":
        """The run that `to_json` wrote."""
        return cls(**{**value, "measured": [Measured(**m) for m in value["measured"]]})


def run_benchmark(
    task: str,
    model: Model,
    *,
    prompts: Path,
    log: Path,
    epochs: int = 1,
    limit: int | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> BenchmarkRun:
    """Run a task and keep its log.

    Args:
        task: one of ours by its name, or whatever inspect finds under it
            (`inspect_evals/ifeval`, `my_tasks.py@mine`).
        model: what answers.
        prompts: the prompts table that our own tasks read.
        log: where the `.eval` log goes; a failed task leaves its log too, if inspect wrote one.
        epochs: completions per sample.
        limit: the first so many samples only.
        metadata: what the log should say beside its own.

    Returns:
        The measures; or the reason in one line, where the task could not run to its end.
    """
    with tempfile.TemporaryDirectory() as home, _undisturbed(home):
        writing = Path(home) / "logs"
        try:
            logs = inspect_eval(
                _resolve(task, prompts),
                model=model,
                display="none",
                log_dir=str(writing),
                log_level="error",
                log_format="eval",
                log_realtime=False,
                log_samples=True,
                acp_server=False,
                ctl_server=False,
                score_display=False,
                max_samples=MAX_CONNECTIONS,
                epochs=epochs,
                limit=limit,
                metadata=dict(metadata or {}),
            )
        except PipelineError as error:
            return BenchmarkRun(error=str(error))
        except Exception as error:
            # A task is somebody else's program: whatever it raises must not stop the others.
            return BenchmarkRun(error=_reason(task, error))
        return _finish(logs, log)


def _resolve(task: str, prompts: Path) -> Task | str:
    """Our task, or its name as inspect reads it: a file's path has to be a relative one.

    Raises:
        MissingInputError: a file of tasks is named and is not there.
    """
    if task in TASKS:
        return TASKS[task](prompts=str(prompts))
    file, at, name = task.partition("@")
    if not file.endswith(".py"):
        return task
    if not Path(file).is_file():
        raise MissingInputError(f"{file}: no such file of inspect tasks")
    return os.path.relpath(file) + at + name


@contextmanager
def _undisturbed(home: str) -> Iterator[None]:
    """Keep inspect's traces and caches out of the user's home, and its handler out of logging."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    before = os.environ.get("XDG_DATA_HOME")
    os.environ["XDG_DATA_HOME"] = home
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        if before is None:
            os.environ.pop("XDG_DATA_HOME", None)
        else:
            os.environ["XDG_DATA_HOME"] = before


def _finish(logs: list[EvalLog], destination: Path) -> BenchmarkRun:
    """Move the log to its place and read the measures from it.

    Raises:
        KeyboardInterrupt: inspect took the Ctrl-C for itself and ended the run.
    """
    if not logs or logs[0].status == "cancelled":
        raise KeyboardInterrupt
    if len(logs) > 1:
        return BenchmarkRun(error=f"the name stands for {len(logs)} tasks; name one as file@task")
    written = logs[0].location
    log = read_eval_log(written)
    destination.parent.mkdir(parents=True, exist_ok=True)
    moved = shutil.copyfile(written, destination.with_name(destination.name + ".writing"))
    os.replace(moved, destination)
    if log.status != "success" or log.results is None:
        said = log.error.message if log.error else f"the task ended as {log.status}"
        return BenchmarkRun(error=_first_line(said))
    reductions = {reduced.scorer: reduced for reduced in log.reductions or []}
    measured = [m for score in log.results.scores for m in _measured(score, reductions)]
    return BenchmarkRun(measured, _truncated(log))


def _truncated(log: EvalLog) -> int:
    return sum(
        sample.output.stop_reason in ("max_tokens", "model_length") for sample in log.samples or []
    )


def _measured(
    score: EvalScore, reductions: Mapping[str, EvalSampleReductions]
) -> Iterator[Measured]:
    """Every metric of a scorer except the standard error, which we compute ourselves."""
    scores = _sample_scores(score, reductions.get(score.scorer))
    for name, metric in score.metrics.items():
        if name in _ERROR_METRICS:
            continue
        value = float(metric.value)
        is_mean = bool(scores) and math.isclose(
            value, estimate_mean(scores).value, rel_tol=1e-9, abs_tol=1e-12
        )
        n_unscored = score.unscored_samples or 0
        yield Measured(
            scorer=score.name,
            metric=name,
            # A rate of nothing is no rate: inspect says 0 where no sample was scored.
            value=value if math.isfinite(value) and score.scored_samples != 0 else None,
            n=len(scores) if scores else score.scored_samples or 0,
            n_unscored=n_unscored,
            scores=scores if is_mean else {},
        )


def _sample_scores(score: EvalScore, reduced: EvalSampleReductions | None) -> dict[str, float]:
    """Scores by sample id, means over epochs; unscored samples and texts are left out."""
    to_float = value_to_float()
    found: dict[str, float] = {}
    for sample in reduced.samples if reduced else []:
        value: Any = sample.value
        if isinstance(value, Mapping):
            value = value.get(score.name)
        if value is None or isinstance(value, list):
            continue
        number = to_float(value)
        if math.isfinite(number):
            found[str(sample.sample_id)] = number
    return found


def _reason(task: str, error: Exception) -> str:
    if isinstance(error, PrerequisiteError) and "No inspect tasks" in str(error):
        ours = ", ".join(TASKS)
        return f"no such task; ours are {ours}, others come with an installed package ({task})"
    return f"{type(error).__name__}: {_first_line(str(error))}"


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "no reason given"
