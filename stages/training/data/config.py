"""Settings of what is trained on: which pairs, and how much each counts."""

from abc import ABC, abstractmethod
from typing import Annotated, Literal

from pydantic import Field

from schemas.stage import Config

WhichPairs = Literal["auto", "sampled", "given", "both"]


class LengthControl(Config):
    """What becomes of training pairs whose completions differ in length: a judge's taste or not."""

    how: Literal["off", "drop", "balance"] = Field(
        "off",
        description="off; drop pairs that differ by more than max_difference tokens; or balance: "
        "in every band of so many tokens as many pairs stay whose chosen completion is the longer "
        "one as whose rejected one is, drawn by the seed",
    )
    max_difference: int = Field(
        100, ge=1, description="tokens: what drop allows, and how wide a band of balance is"
    )


class TopPairs(Config):
    """Only the clearest training pairs."""

    by: Literal["margin", "strength"] = Field(
        "margin", description="clearest by the judge's margin, or by the strength that was given"
    )
    count: int = Field(ge=1, description="pairs that stay, those with the largest values")


class EqualWeights(Config):
    """Every pair counts the same."""

    kind: Literal["none"] = "none"

    @property
    def column(self) -> str | None:
        """The column that weights are made of."""
        return None


class _PowerWeights(Config, ABC):
    power: float = Field(
        1.0, gt=0, le=8, description="a pair counts value ** power, over the mean of all pairs"
    )

    @property
    @abstractmethod
    def column(self) -> str:
        """The column that weights are made of."""


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
