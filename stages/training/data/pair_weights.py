"""How much each pair counts: all the same, or by how clearly one side is better."""

from typing import Any

import numpy as np

from stages.training.data.config import EqualWeights, MarginWeights, StrengthWeights
from stages.training.data.token_store import Rows, TokenTable

Floats = np.ndarray[Any, np.dtype[np.float64]]


def weigh_pairs(
    settings: EqualWeights | MarginWeights | StrengthWeights, table: TokenTable, rows: Rows
) -> Floats | None:
    """Weights of `rows`, their mean 1, by row of the whole table: float64 (len(table),).

    None where no pair has a weight.
    """
    if isinstance(settings, EqualWeights):
        return None
    weights = np.full(len(table), np.nan)
    weights[rows] = normalised(table.numbers(settings.column)[rows], settings.power)
    return weights


def normalised(values: Floats, power: float) -> Floats:
    """w_i = v_i^power / mean_j(v_j^power): float64 (n,), mean 1, for n values above zero.

    The mean over pairs of w_i * loss_i is then the weighted mean of the losses, and equal values
    weigh as if there were no weights.
    """
    raised = (values / values.max()) ** power
    weights: Floats = raised / raised.mean()
    return weights


def effective_pairs(weights: Floats) -> float:
    """(sum w)^2 / sum w^2: as many pairs without weights would average out noise as well.

    Kish 1965, Survey Sampling, section 8.2.
    """
    return float(weights.sum() ** 2 / (weights**2).sum())
