"""Which checkpoint of a training is published: a rule declared before the training begins."""

from collections.abc import Callable, Mapping, Sequence

from stages.training.checkpoints.config import MEASURED, BestCheckpoint, LastCheckpoint

IsSound = Callable[[Mapping[str, float]], bool]
"""Whether the guard has nothing against what was written at a measured step."""


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
