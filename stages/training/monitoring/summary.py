"""summary.json of a training: what a reader wants of its record, and nothing about the machine."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.results.base import write_result
from schemas.results.training import Published, TrainingSummary
from stages.training.monitoring.guard import Guard
from stages.training.monitoring.metrics import PERFORMANCE, Row


def write_summary(
    output: Path, said: Mapping[str, Any], rows: Sequence[Row], guard: Guard, published: Published
) -> None:
    """Write summary.json: `said` as it stands, first, last and best evaluation, and findings."""
    clean = [{k: _finite(v) for k, v in row.items() if k not in PERFORMANCE} for row in rows]
    measured = [
        {k: v for k, v in row.items() if k == "step" or k.startswith("eval_")}
        for row in clean
        if "eval_loss" in row
    ]
    summary = TrainingSummary(
        **said,
        final=clean[-1],
        eval_first=measured[0] if measured else None,
        eval_last=measured[-1] if measured else None,
        eval_best=_best(measured),
        published=published,
        guard=guard.findings,
        chosen_fell_at_step=guard.first_step("chosen_fell"),
    )
    write_result(output / "summary.json", summary)


def _finite(value: Any) -> Any:
    return value if not isinstance(value, float) or math.isfinite(value) else None


def _best(measured: Sequence[Row]) -> Row | None:
    known = [row for row in measured if row["eval_loss"] is not None]
    return min(known, key=lambda row: float(row["eval_loss"]), default=None)
