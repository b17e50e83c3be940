"""How much each pair counts, by how clearly one side is better, and how often it is seen."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from schemas.errors import ConfigError
from schemas.ids import seed_from
from stages.training.data.config import EqualWeights, MarginWeights, StrengthWeights
from stages.training.data.token_store import Rows, TokenTable

Floats = np.ndarray[Any, np.dtype[np.float64]]
SOURCE, SAMPLED = "source", "sampled"
"""Numbers beside a pair: `source_code` of where its prompt came from, and 1 where label made it."""


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


def source_code(name: str) -> float:
    """A number for a source's name, the same everywhere; exact in float64."""
    return float(int(hashlib.sha256(name.encode()).hexdigest()[:12], 16))


def repeated(table: TokenTable, rows: Rows, repeat: Mapping[str, float], seed: int) -> Rows:
    """The rows of one pass: of each named source so many times its rows, int64 (m,).

    Of 2.5 times, the half is drawn by the seed, the same in every pass. `sampled` names all pairs
    of label; a pair that two names fit takes the product of theirs.

    Raises:
        ConfigError: no pair is of a source that is named, or none is left.
    """
    if not repeat:
        return rows
    times = np.ones(len(rows))
    for name, factor in repeat.items():
        of_it = _is_of(table, name)[rows]
        if not of_it.any():
            raise ConfigError(
                f"train.repeat: no training pair is of source {name!r}; name a source of [ingest], "
                f"or {SAMPLED} for the pairs of [label]"
            )
        times[of_it] *= factor
    lots = np.random.default_rng(seed_from(seed, "repeat")).permutation(len(rows))
    counts = np.floor(times).astype(np.int64)
    for part in np.unique(times - counts):
        share = np.flatnonzero(times - counts == part)
        drawn = share[np.argsort(lots[share])][: round(float(part) * len(share))]
        counts[drawn] += 1
    seen: Rows = np.repeat(rows, counts)
    if not len(seen):
        raise ConfigError("train.repeat: no pair is left to train on; raise a source's number")
    return seen


def _is_of(table: TokenTable, name: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if name == SAMPLED:
        return np.asarray(table.numbers(SAMPLED) > 0)
    return np.asarray(table.numbers(SOURCE) == source_code(name))
