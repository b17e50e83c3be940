"""The report: one self-contained page and the numbers on it."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from schemas.stage import Config, Stage, StageContext


class ReportConfig(Config):
    """What the page says besides what it measures."""

    title: str = Field("Preference training report", description="heading of the page")
    examples: int = Field(
        8, ge=0, description="side-by-side examples drawn at random; half as many doubtful ones"
    )
    verdicts: int = Field(
        200, ge=0, description="comparisons in the list of verdicts, a fair sample of more"
    )
    seed: int = Field(0, ge=0, description="seed of the draw of examples")
    world: Literal["food"] | None = Field(
        None, description="world with a known truth, whose rates the summary must hold"
    )


def _run(config: ReportConfig, context: StageContext) -> Mapping[str, int]:
    from stages.report.page import write_report

    return write_report(config, context)


STAGE = Stage(
    name="report",
    summary="write one self-contained page and every number on it",
    config=ReportConfig,
    inputs=("ingest", "sft", "judge", "sample", "label", "train", "evaluate"),
    run=_run,
    version=5,
)
