"""Weights & Biases: its own settings, as WANDB_MODE=offline or WANDB_PROJECT, stay in force."""

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from transformers import PreTrainedModel

from stages.training.monitoring.metrics import Row
from stages.training.monitoring.observers import Observer
from stages.training.monitoring.reporters.protocol import PROJECT, ReportedRun, scalars


class WandbReporter(Observer):
    """One run per stage; a resumed training goes on with the run that it began."""

    def __init__(self, run: ReportedRun) -> None:
        self._run = run
        self._session: Any = None

    def begin(self, rows: Sequence[Row]) -> None:
        """Open the run, or go on with it."""
        wandb: Any = import_module("wandb")
        self._session = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=self._run.name,
            id=self._run.id,
            resume="allow",
            config=dict(self._run.settings),
            dir=str(self._run.folder),
        )
        # By our own step, not by the number of calls: a step that is trained again after a kill
        # lands on itself.
        self._session.define_metric("step")
        self._session.define_metric("*", step_metric="step")

    def observe(self, row: Row, model: PreTrainedModel) -> None:
        """Send the row's numbers."""
        self._session.log({"step": int(row["step"]), **scalars(row)})

    def close(self) -> None:
        """Send what is still on its way."""
        if self._session is not None:
            self._session.finish()
