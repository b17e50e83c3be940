"""What every reporter is told of a training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.ids import content_id
from stages.training.monitoring.metrics import Row

PROJECT = "prefline"
_HELD_OUT = "eval_"


@dataclass(frozen=True)
class ReportedRun:
    """A stage of a run, and the settings to show beside its curves."""

    folder: Path
    stage: str
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What people see: the run directory's name and the stage."""
        return f"{self.folder.resolve().name}-{self.stage}"

    @property
    def id(self) -> str:
        """The same whenever this stage of this run directory goes on, and no other's."""
        return content_id("reported-run", str(self.folder.resolve()), self.stage)


def scalars(row: Row) -> dict[str, float]:
    """A row of the record by the names that trainers use: `train/loss`, `eval/loss`."""
    return {
        f"eval/{name.removeprefix(_HELD_OUT)}" if name.startswith(_HELD_OUT) else f"train/{name}":
        value
        for name, value in row.items()
        if name != "step"
    }  # fmt: skip
