"""The report: one self-contained page and the numbers on it."""

from schemas.stage import Stage, called_later
from stages.report.config import ReportConfig

STAGE = Stage(
    name="report",
    summary="write one self-contained page and every number on it",
    config=ReportConfig,
    inputs=("ingest", "sft", "judge", "sample", "label", "train", "evaluate"),
    run=called_later("stages.report.page.write", "write_report"),
    version=6,
)
