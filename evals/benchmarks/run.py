"""Run one inspect-ai task on one model and take what it measured out of the log.

Importing this module imports inspect_ai (3 s).
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai._util import package, platform
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import Model
from pydantic import Field

from evals.benchmarks.dataset_errors import data_set_of
from evals.benchmarks.measures import Measured, measures_of
from evals.benchmarks.provider import MAX_CONNECTIONS
from evals.benchmarks.tasks import TASKS
from schemas.errors import ConfigError, MissingInputError, PipelineError
from schemas.files import first_line, writing_file
from schemas.results.base import Result

# inspect asks at each run which package brings a task: half a second of CPU where many are there.
vars(package)["packages_distributions"] = cache(packages_distributions)


class BenchmarkRun(Result):
    """What a task measured, or why it could not.

    `n_truncated` counts completions cut short, `first_failure` says why the first of those that
    failed has none.
    """

    measured: list[Measured] = Field(default_factory=list)
    n_truncated: int = 0
    first_failure: str | None = None
    error: str | None = None


def run_benchmark(
    task: str,
    model: Model,
    *,
    log: Path,
    args: Mapping[str, Any] | None = None,
    reference: Model | None = None,
    epochs: int = 1,
    limit: int | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> BenchmarkRun:
    """Run a task and keep its log.

    Args:
        task: one of ours by its name, or whatever inspect finds under it
            (`inspect_evals/ifeval`, `my_tasks.py@mine`).
        model: what answers.
        args: arguments of the task.
        reference: the model in the role `reference`, for tasks that ask for one.
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
                _resolve(task, args or {}),
                model=model,
                model_roles={"reference": reference} if reference is not None else None,
                task_args={} if task in TASKS else dict(args or {}),
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


def _resolve(task: str, args: Mapping[str, Any]) -> Task | str:
    """Our task, or its name as inspect reads it: a file's path has to be a relative one.

    Raises:
        MissingInputError: a file of tasks is named and is not there.
        ConfigError: the task takes no such argument.
    """
    if task in TASKS:
        try:
            return TASKS[task].make(**args)
        except TypeError as error:
            raise ConfigError(f"{task}: {error}; correct evaluate.task_args") from error
    file, at, name = task.partition("@")
    if not file.endswith(".py"):
        return task
    if not Path(file).is_file():
        raise MissingInputError(f"{file}: no such file of inspect tasks")
    return os.path.relpath(file) + at + name


@contextmanager
def unaware_of_notebooks() -> Iterator[None]:
    """Let inspect work in a notebook as in a script, from where its models are made.

    It would ask for widgets there, though it shows nothing, and change the notebook's event loop,
    though it works in a thread of its own.
    """
    before = platform.running_in_notebook
    platform.running_in_notebook = lambda: False
    try:
        yield
    finally:
        platform.running_in_notebook = before


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
    with writing_file(destination) as temporary:
        shutil.copyfile(written, temporary)
    if log.status != "success" or log.results is None:
        said = log.error.message if log.error else f"the task ended as {log.status}"
        return BenchmarkRun(error=first_line(said))
    reductions = {reduced.scorer: reduced for reduced in log.reductions or []}
    about = {str(sample.id): sample.metadata for sample in log.samples or []}
    measured = [m for score in log.results.scores for m in measures_of(score, reductions, about)]
    errors = (sample.output.error for sample in log.samples or [])
    return BenchmarkRun(
        measured=measured,
        n_truncated=_truncated(log),
        first_failure=next((first_line(said) for said in errors if said), None),
    )


def _truncated(log: EvalLog) -> int:
    return sum(
        sample.output.stop_reason in ("max_tokens", "model_length") for sample in log.samples or []
    )


def _reason(task: str, error: Exception) -> str:
    if isinstance(error, PrerequisiteError) and "No inspect tasks" in str(error):
        ours = ", ".join(TASKS)
        return f"no such task; ours are {ours}, others come with an installed package ({task})"
    said = first_line(error)
    data = data_set_of(error)
    if data is not None and data not in said:
        said = f"{said} (data set {data})"
    if data is not None:
        said += "; run where it can be reached, or where it has been downloaded"
    return f"{type(error).__name__}: {said}"
