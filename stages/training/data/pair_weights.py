"""How much each pair counts, by how clearly one side is better, and how often it is seen."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from schemas.errors import ConfigError
from schemas.ids import seed_from
from stages.training.data.config import (
    EqualWeights,
    LengthControl,
    MarginWeights,
    StrengthWeights,
    TopPairs,
)
from stages.training.data.rows.token_store import Rows, TokenTable

Floats = np.ndarray[Any, np.dtype[np.float64]]
SOURCE, JUDGE, SAMPLED = "source", "judge", "sampled"
"""Numbers beside a pair: `source_code` of where its prompt came from and of who has labelled it,
and 1 where label made it."""


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
                f"a judge, or {SAMPLED} for the pairs of [label]"
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
    code = source_code(name)
    return np.asarray((table.numbers(SOURCE) == code) | (table.numbers(JUDGE) == code))


def length_controlled(table: TokenTable, rows: Rows, control: LengthControl, seed: int) -> Rows:
    """The rows whose completions' difference in tokens is as declared, in their order."""
    if control.how == "off":
        return rows
    _, chosen, rejected = table.lengths[rows].T
    difference = chosen.astype(np.int64) - rejected
    if control.how == "drop":
        kept: Rows = rows[np.abs(difference) <= control.max_difference]
        return kept
    lots = np.random.default_rng(seed_from(seed, "lengths")).permutation(len(rows))
    bands = np.ceil(np.abs(difference) / control.max_difference).astype(np.int64)
    stays = difference == 0
    for band in np.unique(bands[~stays]):
        longer = np.flatnonzero((bands == band) & (difference > 0))
        shorter = np.flatnonzero((bands == band) & (difference < 0))
        few = min(len(longer), len(shorter))
        for side in (longer, shorter):
            stays[side[np.argsort(lots[side])][:few]] = True
    balanced: Rows = rows[stays]
    return balanced


def clearest(table: TokenTable, rows: Rows, top: TopPairs | None) -> Rows:
    """The rows with the largest margin or strength, in their order; of equals those first by key.

    Raises:
        ConfigError: no row has such a number.
    """
    if top is None:
        return rows
    values = table.numbers(top.by)[rows]
    if np.isnan(values).all():
        raise ConfigError(
            f"train.top.by: no training pair has a {top.by}; take the other, or leave train.top out"
        )
    order = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")[: top.count]
    kept: Rows = rows[np.sort(order[~np.isnan(values[order])])]
    return kept
