"""Speaks up when the policy forgets what it is trained to prefer."""

from collections.abc import Mapping

from schemas.stage import Progress


class ChosenGuard:
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

    def observe(self, row: Mapping[str, float]) -> None:
        """Look at a row of the record; warns the first time the fall is visible."""
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
