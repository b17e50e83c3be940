"""Settings of report."""

from typing import Literal

from pydantic import Field

from schemas.stage import Config

SWEEP = "sweep/sweep.json"
"""What several trainings of one recipe came to, below the run."""

AUDIT_LABELS = "audit/labels.jsonl"
"""Where `prefline audit RUN` puts them, below the run."""


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
    labels: str | None = Field(
        None,
        description="file of what people said of some of the pairs, JSON lines as `prefline audit` "
        "writes them: the page then shows the rate anchored in them; null takes the run's own "
        "audit/labels.jsonl, where it is there",
    )
    world: Literal["food"] | None = Field(
        None, description="world with a known truth, whose rates the summary must hold"
    )
