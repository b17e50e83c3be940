"""Checkpoints that outlive their training: the best so far, the last one, and the published one.

They are whole model folders, `checkpoints/step-N`; the published one ends up as `model`. What a
killed training resumes from lies elsewhere (stages.training.checkpoints.resume).
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from transformers import PreTrainedModel

from schemas.errors import BackendError, ConfigError
from schemas.files import (
    SEAL,
    is_sound,
    read_sealed_json,
    remove,
    write_sealed_json,
    writing_folder,
)
from schemas.results.base import read_result, write_result
from schemas.results.training import CheckpointRecord, KeptCheckpoint, Published
from schemas.stage import Progress
from stages.training.checkpoints.config import BestCheckpoint, LastCheckpoint
from stages.training.checkpoints.read_back import HeldOutLoss
from stages.training.checkpoints.selection import IsSound, best_steps, is_candidate
from stages.training.monitoring.metrics import Row, damaged
from stages.training.monitoring.observers import Observer

KEPT = "checkpoints"
PUBLISHED = "model"
RECORD = "checkpoints.json"
_LOSSES = "losses.json"


class KeptCheckpoints(Observer):
    """Keeps the `count` best checkpoints while the training runs, by the rule of `publish`.

    Folders that a resumed training may still need stay until it can be resumed from a later step:
    at most twice `count` are there at a time.
    """

    def __init__(
        self,
        output: Path,
        publish: BestCheckpoint | LastCheckpoint,
        count: int,
        save: Callable[[PreTrainedModel, Path], None],
        progress: Progress,
        is_sound: IsSound = lambda row: True,
        loss: HeldOutLoss | None = None,
        is_collapsed: IsSound = lambda row: False,
    ) -> None:
        """`save` writes a model into a new folder; `loss` is measured on each that is kept."""
        self._output = output
        self._publish = publish
        self._count = count
        self._save = save
        self._progress = progress
        self._is_sound = is_sound
        self._loss = loss
        self._is_collapsed = is_collapsed
        self._measured: list[Row] = []
        self._resumable: Sequence[Row] = ()

    def begin(self, rows: Sequence[Row]) -> None:
        """Go on from what a killed training has kept.

        Raises:
            DataError: a file of it is not as it was written.
        """
        self._refuse_damaged()
        self._take_back()
        for row in rows:
            self._refuse_unknown_measure(row)
        self._measured = [row for row in rows if is_candidate(row) or row["step"] == 0]
        self._resumable = tuple(self._measured)
        self._prune()

    def observe(self, row: Row, model: PreTrainedModel) -> None:
        """Keep the weights of a measured step that is among the best so far.

        Raises:
            ConfigError: the declared measure is not one that is measured.
        """
        self._refuse_unknown_measure(row)
        if not is_candidate(row) and row["step"]:
            return
        self._measured.append(row)
        if row["step"] in self._best(self._measured):
            self._write(int(row["step"]), model)
        self._prune()

    def saved(self, step: int) -> None:
        """From here on a killed training does not need what was best earlier."""
        self._resumable = tuple(self._measured)
        self._prune()

    def publish(self, model: PreTrainedModel, final_step: int) -> Published:
        """Make the best checkpoint `model/`, keep the last one too, and write checkpoints.json.

        Args:
            model: as the last step left it.
            final_step: that step.
        """
        if not self._folder(final_step).exists():
            self._write(final_step, model)
        best = self._best(self._measured)
        chosen = best[0] if best else final_step
        self._refuse_collapsed(chosen)
        self._prune([*best, final_step])
        for folder in self._folders():  # from here on the manifest knows every file
            (folder / SEAL).unlink(missing_ok=True)
        published = Published(
            step=chosen,
            final_step=final_step,
            why=self._why(chosen),
            loss=self._losses().get(str(chosen)),
        )
        self._warn_of_no_gain(chosen)
        self._write_record(published)
        os.replace(self._folder(chosen), self._output / PUBLISHED)
        (self._output / KEPT / _LOSSES).unlink(missing_ok=True)
        if not any((self._output / KEPT).iterdir()):
            (self._output / KEPT).rmdir()
        return published

    def _best(self, rows: Sequence[Row]) -> list[int]:
        left = [row for row in rows if not self._is_collapsed(row)]
        return best_steps(left, self._publish, self._count, self._is_sound)

    def _row(self, step: int) -> Row:
        return next((row for row in self._measured if row["step"] == step), {})

    def _why(self, step: int) -> str:
        rule = self._publish
        rows = [row for row in self._measured if not self._is_collapsed(row)]
        ranked = best_steps(rows, rule, len(rows), self._is_sound)
        if isinstance(rule, LastCheckpoint):
            return rule.why(self._row(step), len(ranked))
        if not ranked:
            return f"the last step: {rule.measure} was not measured"
        alike = [s for s in ranked if self._is_sound(self._row(s))] if rule.sound_first else ranked
        why = rule.why(self._row(step), len(alike or ranked))
        if not alike:
            return f"{why}, all of them unsound by what the policy wrote"
        left_out = len(ranked) - len(alike)
        return f"{why}; {left_out} more are unsound by what the policy wrote" if left_out else why

    def _refuse_collapsed(self, step: int) -> None:
        """No policy is better than one that has lost what it was trained on."""
        if self._is_collapsed(self._row(step)):
            raise BackendError(
                f"train: the policy has collapsed: at step {step} the mean log p(chosen) is "
                f"{self._row(step).get('eval_logps/chosen', float('nan')):.4g}, far below the "
                "reference's (train.guard.collapse_fall), and no earlier step is left to publish; "
                "lower learning_rate, or raise loss.beta"
            )

    def _warn_of_no_gain(self, step: int) -> None:
        start, chosen = (self._publish.rank(self._row(s) or {"step": s}) for s in (0, step))
        if isinstance(self._publish, BestCheckpoint) and start and chosen and chosen[0] < start[0]:
            name = self._publish.measure
            self._progress.warn(
                f"train: by {name} no checkpoint is as good as the start "
                f"({self._row(0)[name]:.4g}; the best, of step {step}, has "
                f"{self._row(step)[name]:.4g}); lower learning_rate, or train on more pairs"
            )

    def _write_record(self, published: Published) -> None:
        """checkpoints.json: what is kept where, how it measured, what is published and why."""
        steps = sorted({published.step, *map(_step_of, self._folders())})
        record = CheckpointRecord(
            publish=self._publish.model_dump(),
            published_step=published.step,
            final_step=published.final_step,
            why=published.why,
            loss_of_first=published.loss,
            checkpoints=[
                KeptCheckpoint(
                    step=step,
                    path=PUBLISHED if step == published.step else f"{KEPT}/step-{step}",
                    measures={k: v for k, v in self._row(step).items() if k.startswith("eval_")},
                )
                for step in steps
            ],
        )
        write_result(self._output / RECORD, record)

    def _take_back(self) -> None:
        """Undo a publication whose stage was killed before it was finished."""
        record, model = self._output / RECORD, self._output / PUBLISHED
        if record.exists() and model.exists():
            said = read_result(record, CheckpointRecord)
            step, loss = said.published_step, said.loss_of_first
            (self._output / KEPT).mkdir(exist_ok=True)
            if loss is not None:
                self._write_losses(self._losses() | {str(step): loss})
            os.replace(model, self._folder(step))
        record.unlink(missing_ok=True)
        remove(model)

    def _refuse_damaged(self) -> None:
        for folder in self._folders():
            if (folder / SEAL).exists() and not is_sound(folder):
                raise damaged(folder, self._output)

    def _write(self, step: int, model: PreTrainedModel) -> None:
        with writing_folder(self._folder(step), sealed=True) as writing:
            writing.rmdir()  # whoever saves makes it
            self._save(model, writing)
            if self._loss is not None:
                losses = self._losses() | {str(step): self._loss.measure(model)}
                self._write_losses(losses)

    def _losses(self) -> dict[str, float]:
        """Held-out loss by step. Raises DataError where they are not as they were written."""
        path = self._output / KEPT / _LOSSES
        try:
            return dict(read_sealed_json(path)) if path.exists() else {}
        except ValueError as error:
            raise damaged(path, self._output) from error

    def _write_losses(self, losses: dict[str, float]) -> None:
        write_sealed_json(self._output / KEPT / _LOSSES, losses)

    def _prune(self, wanted: Iterable[int] | None = None) -> None:
        if wanted is None:
            wanted = [*self._best(self._measured), *self._best(self._resumable)]
        names = {self._folder(step).name for step in wanted}
        for folder in self._folders():
            if folder.name not in names:
                remove(folder)

    def _folders(self) -> list[Path]:
        return sorted((self._output / KEPT).glob("step-*"))

    def _folder(self, step: int) -> Path:
        return self._output / KEPT / f"step-{step}"

    def _refuse_unknown_measure(self, row: Row) -> None:
        """Where held-out pairs are measured at all, the declared measure must be among them."""
        name = getattr(self._publish, "measure", None)
        if name and "eval_loss" in row and name not in row:
            known = ", ".join(key for key in row if key.startswith("eval_"))
            raise ConfigError(f"train.publish.measure: {name} is not measured; one of {known}")


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))
