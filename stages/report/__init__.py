"""The report: one self-contained page and the numbers on it."""

from collections.abc import Sequence
from pathlib import Path

from evals.models.contenders import existing_file
from schemas.stage import Stage, called_later
from stages.report.config import AUDIT_LABELS, SWEEP, ReportConfig


def _files(config: ReportConfig) -> Sequence[Path]:
    return [existing_file(config.labels, "file of labels")] if config.labels else []


def _beside(config: ReportConfig) -> Sequence[str]:
    return (SWEEP,) if config.labels else (AUDIT_LABELS, SWEEP)


STAGE = Stage(
    name="report",
    summary="write one self-contained page and every number on it",
    config=ReportConfig,
    inputs=("ingest", "sft", "judge", "sample", "label", "train", "evaluate"),
    run=called_later("stages.report.page.write", "write_report"),
    version=9,
    files=_files,
    beside=_beside,
)
