"""What training did: curves, first, last and best values, and the signs of a collapse."""

from collections.abc import Sequence
from typing import Any

from stages.report.gather.sources import Json, Rows, Sources
from stages.report.page.text import is_number

MAX_POINTS = 240
HELD_OUT = "eval_"
_LOWER_IS_BETTER = {"loss", "nll_loss"}
_HIGHER_IS_BETTER = {"rewards/margins", "rewards/accuracies"}


def training(sources: Sources, stage: str) -> Json | None:
    """Curves and the first, last and best value of every metric of a training stage.

    Returns:
        `{steps, metrics: {name: {first, last, best, best_step}}, curves: {name: [[step, value]]}}`;
        None where the stage wrote no metrics.
    """
    rows = sources.metrics(stage)
    if not rows:
        return None
    names = sorted({name for row in rows for name in row} - {"step"})
    curves = {name: points for name in names if (points := _points(rows, name))}
    return {
        "steps": max(row.get("step") or 0 for row in rows),
        "metrics": {name: _extremes(name, points) for name, points in curves.items()},
        "curves": {name: thin(points) for name, points in curves.items()},
    }


def _points(rows: Rows, name: str) -> list[list[Any]]:
    return [[row.get("step") or 0, row[name]] for row in rows if is_number(row.get(name))]


def thin(points: Sequence[list[Any]], limit: int = MAX_POINTS) -> list[list[Any]]:
    """At most `limit` of the points, evenly spread, first and last among them."""
    if len(points) <= limit:
        return list(points)
    last = len(points) - 1
    return [points[round(i * last / (limit - 1))] for i in range(limit)]


def _extremes(name: str, points: Sequence[list[Any]]) -> Json:
    plain = name.removeprefix(HELD_OUT)
    best: list[Any] = [None, None]
    if plain in _LOWER_IS_BETTER:
        best = min(points, key=lambda point: float(point[1]))
    elif plain in _HIGHER_IS_BETTER:
        best = max(points, key=lambda point: float(point[1]))
    return {
        "first": points[0][1],
        "last": points[-1][1],
        "best": best[1],
        "best_step": best[0],
    }


def guard(sources: Sources) -> Json | None:
    """Whether the policy came to find the chosen answers less likely than the reference does.

    `value` is the last chosen reward, beta (log p - log p of the reference): its sign tells.
    `fell_at_step` is where the trainer's own guard saw a fall that matters; None where it did not.
    `findings` is all that the guard saw, each with its step and numbers.
    """
    summary = sources.json("train", "summary.json")
    rows = sources.metrics("train")
    for name in ("eval_rewards/chosen", "rewards/chosen"):
        points = _points(rows, name)
        if points:
            return {
                "metric": name,
                "value": points[-1][1],
                "fell_at_step": summary.get("chosen_fell_at_step"),
                "findings": summary.get("guard") or [],
            }
    return None


def checkpoints(sources: Sources) -> Json | None:
    """Which step was published and why, and how it and the other kept ones measured.

    Returns:
        `{published_step, final_step, why, measure, kept: [{step, value, path}]}`, `measure` and the
        values None where the last step was asked for; None where nothing is recorded.
    """
    record = sources.json("train", "checkpoints.json")
    if not record:
        return None
    measure = record["publish"].get("measure")
    kept = [
        {"step": c["step"], "value": c["measures"].get(measure), "path": c["path"]}
        for c in record["checkpoints"]
    ]
    said = {name: record[name] for name in ("published_step", "final_step", "why")}
    return {**said, "measure": measure, "kept": kept}
