"""How much each pair counts: all the same, or by how clearly one side is better."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from schemas.stage import Config

if TYPE_CHECKING:
    import numpy as np

    from stages.training.data.token_store import Rows, TokenTable

    Floats = np.ndarray[Any, np.dtype[np.float64]]


class EqualWeights(Config):
    """Every pair counts the same."""

    kind: Literal["none"] = "none"

    @property
    def column(self) -> str | None:
        """The column that weights are made of."""
        return None

    def weigh(self, table: "TokenTable", rows: "Rows") -> "Floats | None":
        """No pair has a weight."""
        return None


class _PowerWeights(Config):
    power: float = Field(
        1.0, gt=0, le=8, description="a pair counts value ** power, over the mean of all pairs"
    )

    @property
    def column(self) -> str:
        """The column that weights are made of."""
        raise NotImplementedError

    def weigh(self, table: "TokenTable", rows: "Rows") -> "Floats | None":
        """Weights of `rows`, their mean 1, by row of the whole table: float64 (len(table),)."""
        import numpy as np

        weights = np.full(len(table), np.nan)
        weights[rows] = normalised(table.numbers(self.column)[rows], self.power)
        return weights


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


def normalised(values: "Floats", power: float) -> "Floats":
    """w_i = v_i^power / mean_j(v_j^power): float64 (n,), mean 1, for n values above zero.

    The mean over pairs of w_i * loss_i is then the weighted mean of the losses, and equal values
    weigh as if there were no weights.
    """
    raised = (values / values.max()) ** power
    weights: Floats = raised / raised.mean()
    return weights


def effective_pairs(weights: "Floats") -> float:
    """(sum w)^2 / sum w^2: as many pairs without weights would average out noise as well.

    Kish 1965, Survey Sampling, section 8.2.
    """
    return float(weights.sum() ** 2 / (weights**2).sum())
