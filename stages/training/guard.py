"""Speaks up when the policy forgets what it is trained to prefer."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from schemas.stage import Progress
from stages.training.metrics import Row
from stages.training.observers import Observer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ChosenGuard(Observer):
    """Watches mean log p(chosen) against the reference's, on held-out pairs where there are any.

    A preference loss only asks that chosen stays ahead of rejected; it goes to zero as well when
    both become improbable, and with them every well-formed answer. A fall counts from 1 nat and
    from a tenth of the reference's own value on, whichever is more.
    """

    def __init__(self, beta: float, progress: Progress, *, held_out: bool) -> None:
        self._beta = beta
        self._progress = progress
        self._prefix = "eval_" if held_out else ""
        self.first_step: int | None = None

    def begin(self, rows: Sequence[Row]) -> None:
        """Look again at what a resumed training has seen: the warnings belong to the whole."""
        for row in rows:
            self._look(row)

    def observe(self, row: Row, model: "PreTrainedModel") -> None:
        """Look at the row of a step; warns the first time the fall is visible."""
        self._look(row)

    def _look(self, row: Mapping[str, float]) -> None:
        reward = row.get(f"{self._prefix}rewards/chosen")
        if reward is None or self.first_step is not None:
            return
        now = row[f"{self._prefix}logps/chosen"]
        reference = now - reward / self._beta
        if now < reference - max(1.0, abs(reference) / 10):
            self.first_step = int(row["step"])
            where = "held-out" if self._prefix else "training"
            self._progress.warn(
                f"train: step {self.first_step}: mean log p(chosen) on {where} pairs fell from "
                f"the reference's {reference:.2f} to {now:.2f}: the policy unlearns the answers "
                "it should prefer; set loss.rpo_alpha, raise loss.beta or lower learning_rate"
            )
