"""Reporters: programs that draw the curves of trainings, beside the run's own record.

They belong to the runtime, are no part of any result, and are extras of the installation. A new
one is a module with an `Observer`, a line in `REPORTERS`, and its name in `ReporterName`.
"""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from schemas.errors import ConfigError
from schemas.stage import ReporterName, Runtime, StageContext
from stages.training.monitoring.observers import Observer
from stages.training.monitoring.reporters.protocol import ReportedRun
from stages.training.monitoring.reporters.tensorboard_reporter import TensorBoardReporter
from stages.training.monitoring.reporters.trackio_reporter import TrackioReporter
from stages.training.monitoring.reporters.unfailing import Unfailing
from stages.training.monitoring.reporters.wandb_reporter import WandbReporter

# By the name of the package, which is also the name of the extra.
REPORTERS: Mapping[ReporterName, Callable[[ReportedRun], Observer]] = {
    "tensorboard": TensorBoardReporter,
    "trackio": TrackioReporter,
    "wandb": WandbReporter,
}


def refuse_missing_reporters(runtime: Runtime) -> None:
    """Raises ConfigError where a reporter is asked for whose package is not installed."""
    for name in runtime.reporters:
        if find_spec(name) is None:
            raise ConfigError(
                f"runtime.reporters: {name} is not installed; install the extra with "
                f"`.venv/bin/python -m pip install -e '.[{name}]'`, or take {name} out"
            )


def open_reporters(context: StageContext, settings: Mapping[str, Any]) -> list[Observer]:
    """The reporters that the runtime asks for; `settings` are shown beside the curves.

    Raises:
        ConfigError: one is not installed.
    """
    refuse_missing_reporters(context.runtime)
    stage = context.output.name.removesuffix(".partial")
    run = ReportedRun(context.output.parent, stage, settings)
    return [
        Unfailing(name, REPORTERS[name](run), context.progress)
        for name in context.runtime.reporters
    ]
