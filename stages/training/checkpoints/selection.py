"""Which checkpoint of a training is published: a rule declared before the training begins."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.stage import Config

MEASURED = "eval_"
"""Begins the names of what is measured between steps, on held-out items and on generations."""

Rank = tuple[float, float]
"""Sorts checkpoints: the highest is the best."""

IsSound = Callable[[Mapping[str, float]], bool]
"""Whether the guard has nothing against what was written at a measured step."""


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


def is_candidate(row: Mapping[str, float]) -> bool:
    """Whether a step was trained and measured: the start is nobody's result."""
    return row["step"] > 0 and any(name.startswith(MEASURED) for name in row)


def best_steps(
    rows: Sequence[Mapping[str, float]],
    publish: BestCheckpoint | LastCheckpoint,
    count: int,
    is_sound: IsSound,
) -> list[int]:
    """Up to `count` steps of the candidates among `rows`, the best one first."""
    ranked = [
        ((not publish.sound_first or is_sound(row), *rank), int(row["step"]))
        for row in rows
        if is_candidate(row) and (rank := publish.rank(row)) is not None
    ]
    return [step for _, step in sorted(ranked, reverse=True)[:count]]
