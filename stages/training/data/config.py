"""Settings of what is trained on: which pairs, and how much each counts."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.stage import Config

WhichPairs = Literal["auto", "sampled", "given", "both"]


class EqualWeights(Config):
    """Every pair counts the same."""

    kind: Literal["none"] = "none"

    @property
    def column(self) -> str | None:
        """The column that weights are made of."""
        return None


class _PowerWeights(Config):
    power: float = Field(
        1.0, gt=0, le=8, description="a pair counts value ** power, over the mean of all pairs"
    )

    @property
    def column(self) -> str:
        """The column that weights are made of."""
        raise NotImplementedError


class MarginWeights(_PowerWeights):
    """By the judge's margin: how far apart its scores of both sides are, in [0, 1]."""

    kind: Literal["margin"] = "margin"

    @property
    def column(self) -> str:
        """See `EqualWeights.column`."""
        return "margin"


class StrengthWeights(_PowerWeights):
    """By how strongly people preferred the chosen side, in the units of the data set."""

    kind: Literal["strength"] = "strength"

    @property
    def column(self) -> str:
        """See `EqualWeights.column`."""
        return "strength"


PairWeights = Annotated[EqualWeights | MarginWeights | StrengthWeights, Field(discriminator="kind")]
