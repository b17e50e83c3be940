"""A reporter that cannot stop a training."""

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel

from schemas.stage import Progress
from stages.training.monitoring.metrics import Row
from stages.training.monitoring.observers import Observer


class Unfailing(Observer):
    """Passes everything on to a reporter until that fails; then says so once, and is silent."""

    def __init__(self, name: str, reporter: Observer, progress: Progress) -> None:
        self._name = name
        self._reporter = reporter
        self._progress = progress
        self._works = True

    def begin(self, rows: Sequence[Row]) -> None:
        """Open the reporter."""
        self._try(lambda: self._reporter.begin(rows))

    def observe(self, row: Row, model: PreTrainedModel) -> None:
        """Report a row."""
        self._try(lambda: self._reporter.observe(row, model))

    def close(self) -> None:
        """Close the reporter."""
        self._try(self._reporter.close)

    def _try(self, do: Callable[[], None]) -> None:
        if not self._works:
            return
        try:
            do()
        # Whatever a service or its client may raise: none of it is about the training.
        except Exception as error:
            self._works = False
            first = (str(error).strip().splitlines() or [""])[0]
            self._progress.warn(
                f"{self._name} reports no further ({type(error).__name__}: {first}); the record "
                "of the training is complete without it"
            )
