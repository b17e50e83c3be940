"""Settings: which checkpoint of a training is published."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.stage import Config

MEASURED = "eval_"
"""Begins the names of what is measured between steps, on held-out items and on generations."""

Rank = tuple[float, float]
"""Sorts checkpoints: the highest is the best."""


class BestCheckpoint(Config):
    """The checkpoint that is best by one held-out measure; of equals the later one."""

    kind: Literal["best"] = "best"
    measure: str = Field(
        "eval_loss",
        pattern=f"^{MEASURED}",
        description="a measure of metrics.jsonl, such as eval_loss or eval_rewards/accuracies",
    )
    mode: Literal["auto", "min", "max"] = Field(
        "auto", description="which value is best; auto: the lowest of a loss, else the highest"
    )
    sound_first: bool = Field(
        True,
        description="take a step whose completions end less often, or are malformed more often, "
        "than the guard allows only where there is no other",
    )

    @property
    def lowest(self) -> bool:
        """Whether low values are good."""
        return self.mode == "min" or (self.mode == "auto" and self.measure.endswith("loss"))

    def rank(self, row: Mapping[str, float]) -> Rank | None:
        """Where a measured step stands; None where the measure is missing or not finite."""
        value = row.get(self.measure)
        if value is None or not math.isfinite(value):
            return None
        return (-value if self.lowest else value, row["step"])

    def why(self, row: Mapping[str, float], candidates: int) -> str:
        """Why the step of `row` is published, in words."""
        which = "lowest" if self.lowest else "highest"
        steps = "1 step" if candidates == 1 else f"{candidates} steps"
        return f"the {which} {self.measure}, {row[self.measure]:.4g}, of {steps} measured"


class LastCheckpoint(Config):
    """The weights after the last step, whatever was measured on the way."""

    kind: Literal["last"] = "last"
    sound_first: ClassVar[bool] = False

    def rank(self, row: Mapping[str, float]) -> Rank | None:
        """Later is better."""
        return (row["step"], 0.0)

    def why(self, row: Mapping[str, float], candidates: int) -> str:
        """Why the step of `row` is published, in words."""
        return "the last step, as train.publish asks"


Publish = Annotated[BestCheckpoint | LastCheckpoint, Field(discriminator="kind")]
