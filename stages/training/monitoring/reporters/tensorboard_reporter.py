"""TensorBoard: event files in `<run directory>/tensorboard/<stage>`."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from transformers import PreTrainedModel

from stages.training.monitoring.metrics import Row
from stages.training.monitoring.observers import Observer
from stages.training.monitoring.reporters.protocol import ReportedRun, scalars


class TensorBoardReporter(Observer):
    """Writes what `tensorboard --logdir RUN/tensorboard` shows."""

    def __init__(self, run: ReportedRun) -> None:
        self._folder = run.folder / "tensorboard" / run.stage
        self._writer: Any = None

    def begin(self, rows: Sequence[Row]) -> None:
        """Open the file; what an interrupted run wrote of later steps is taken back."""
        writers: Any = import_module("torch.utils.tensorboard")
        after = int(rows[-1]["step"]) + 1 if rows else 0
        self._writer = writers.SummaryWriter(str(self._folder), purge_step=after)

    def observe(self, row: Row, model: PreTrainedModel) -> None:
        """Write the row's numbers at its step."""
        for name, value in scalars(row).items():
            self._writer.add_scalar(name, value, int(row["step"]))

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.close()
