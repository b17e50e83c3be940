"""Who looks on while a model is trained, and when."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from stages.training.monitoring.metrics import Row


class Observer:
    """Looks on, measures and records; the training is the same without it.

    The loop calls, in this order: `begin` once; at every step `measure` where held-out items are
    measured, `observe` with the row of the step, `saved` where the step can be resumed from; and
    `close` at the end, also after a failure. An observer overrides what it needs.
    """

    def begin(self, rows: Sequence[Row]) -> None:
        """Before the first step: the rows so far, none where training starts anew.

        What an observer recorded of later steps has to go: these are trained once more.
        """

    def measure(self, step: int, model: PreTrainedModel) -> Row:
        """More columns for the row of step `step`; the model is in evaluation mode."""
        return {}

    def observe(self, row: Row, model: PreTrainedModel) -> None:
        """The finished row of a step, and the model as that step has left it."""

    def saved(self, step: int) -> None:
        """A killed training would now be resumed from `step`."""

    def close(self) -> None:
        """The training is over, or has failed."""
