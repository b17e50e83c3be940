"""Settings of a judge's card: the floors that a judge must reach."""

from pydantic import Field

from schemas.stage import Config


class JudgeFloors(Config):
    """What a recipe asks of its judge; None asks nothing."""

    min_agreement: float | None = Field(
        None,
        ge=0,
        le=1,
        description="least accuracy on held-out labels; below it label and evaluate refuse",
    )
    max_position_gap: float | None = Field(
        None,
        ge=0,
        le=1,
        description="largest |score shown first - score shown second|; above it label and "
        "evaluate refuse",
    )
    max_unscored: float | None = Field(
        0.2,
        ge=0,
        le=1,
        description="largest share of verdicts on held-out comparisons that may be unscored; above "
        "it label and evaluate refuse",
    )
