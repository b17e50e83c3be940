"""summary.json of a training: what a reader wants of its record, and nothing about the machine."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from schemas.files import write_json
from stages.training.checkpoints.retention import Published
from stages.training.monitoring.guard import Guard
from stages.training.monitoring.metrics import PERFORMANCE, Row


def write_summary(
    output: Path, said: Mapping[str, Any], rows: Sequence[Row], guard: Guard, published: Published
) -> None:
    """Write summary.json: `said` as it stands, first, last and best evaluation, and findings."""
    clean = [{k: v for k, v in row.items() if k not in PERFORMANCE} for row in rows]
    measured = [
        {k: v for k, v in row.items() if k == "step" or k.startswith("eval_")}
        for row in clean
        if "eval_loss" in row
    ]
    summary = {
        **said,
        "final": clean[-1],
        "eval_first": measured[0] if measured else None,
        "eval_last": measured[-1] if measured else None,
        "eval_best": min(measured, key=lambda row: row["eval_loss"], default=None),
        "published": {k: v for k, v in asdict(published).items() if k != "loss"},
        "guard": guard.findings,
        "chosen_fell_at_step": guard.first_step("chosen_fell"),
    }
    write_json(output / "summary.json", summary, sort_keys=True)
