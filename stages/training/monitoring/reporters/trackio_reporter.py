"""Trackio: a local dashboard (`trackio show`); its own settings, as TRACKIO_DIR, stay in force."""

import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from typing import Any

from transformers import PreTrainedModel

from stages.training.monitoring.metrics import Row
from stages.training.monitoring.observers import Observer
from stages.training.monitoring.reporters.protocol import PROJECT, ReportedRun, scalars


class TrackioReporter(Observer):
    """One run per stage; a resumed training goes on with the run that it began."""

    def __init__(self, run: ReportedRun) -> None:
        self._run = run
        self._session: Any = None

    def begin(self, rows: Sequence[Row]) -> None:
        """Open the run, or go on with it."""
        trackio: Any = import_module("trackio")
        with redirect_stdout(sys.stderr):  # stdout is for data
            self._session = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", PROJECT),
                name=f"{self._run.name}-{self._run.id[:6]}",
                resume="allow",
                config=dict(self._run.settings),
            )

    def observe(self, row: Row, model: PreTrainedModel) -> None:
        """Store the row's numbers at its step."""
        self._session.log(scalars(row), step=int(row["step"]))

    def close(self) -> None:
        """Store what is still in memory."""
        if self._session is not None:
            with redirect_stdout(sys.stderr):
                self._session.finish()
