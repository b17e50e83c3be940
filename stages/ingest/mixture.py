"""Mixtures: how many rows of each source stay, and which.

A source may have a cap (`max_kept`) and a weight. Weights fix the shares of those sources in the
mixture; as no row is used twice, the mixture is as large as the scarcest source allows. Which rows
stay is decided by the hash of seed and row id: the same whatever the order of reading, and adding
rows exchanges few of those that were drawn.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ConfigError
from schemas.ids import seed_from
from stages.ingest.near_duplicates.keys import NO_KEYS, id_keys


@dataclass(frozen=True)
class Share:
    """What one source may contribute; None leaves it free."""

    max_kept: int | None = None
    weight: float | None = None


def quotas(available: Mapping[str, int], shares: Mapping[str, Share]) -> dict[str, tuple[int, str]]:
    """source -> (rows that stay, reason for the others: `over_cap` or `over_weight`).

    Args:
        available: rows of each source that are good.
        shares: what the recipe says of each source.

    Raises:
        ConfigError: a source with a weight has no row, or only some sources have one.
    """
    capped = {
        name: min(count, _limit(shares[name].max_kept, count)) for name, count in available.items()
    }
    weights = {name: share.weight for name, share in shares.items() if share.weight is not None}
    if not weights:
        return {name: (count, "over_cap") for name, count in capped.items()}
    _check(available, weights)
    scale = min(capped[name] / weight for name, weight in weights.items())
    kept = {name: math.floor(scale * weight + 1e-9) for name, weight in weights.items()}
    return {
        name: (min(count, kept[name]), "over_weight" if kept[name] < count else "over_cap")
        for name, count in capped.items()
    }


def _limit(cap: int | None, count: int) -> int:
    return count if cap is None else cap


def _check(available: Mapping[str, int], weights: Mapping[str, float]) -> None:
    free = sorted(set(available) - set(weights))
    if free:
        raise ConfigError(f"ingest: {free[0]} has no weight and others have; give every source one")
    empty = [name for name in weights if not available[name]]
    if empty:
        raise ConfigError(f"ingest: {empty[0]} has a weight and no row that can be used")


class Lots:
    """The rows of one source, each with the lot that the seed draws for it: 20 bytes a row."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._keys: list[NDArray[np.bytes_]] = [NO_KEYS]
        self._lots: list[NDArray[np.uint32]] = [np.empty(0, np.uint32)]

    def __len__(self) -> int:
        """How many rows."""
        return sum(map(len, self._lots))

    def add(self, ids: Sequence[str]) -> None:
        """Take more rows by their ids."""
        lots = (seed_from(self._seed, "mixture", one) for one in ids)
        self._keys.append(id_keys(ids))
        self._lots.append(np.fromiter(lots, np.uint32, len(ids)))

    def beyond(self, count: int) -> NDArray[np.bytes_]:
        """Keys, ascending, of all rows but the `count` with the lowest lots."""
        keys = np.concatenate(self._keys)
        order = np.lexsort((keys, np.concatenate(self._lots)))
        return np.sort(keys[order[count:]])
