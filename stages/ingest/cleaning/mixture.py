"""Mixtures: how many rows of each source stay, and which.

A source may have a cap (`max_kept`) and a weight. Weights fix the shares of those sources in the
mixture; as no row is used twice, the mixture is as large as the scarcest source allows. Which rows
stay is decided by the hash of seed and row id: the same whatever the order of reading, and adding
rows exchanges few of those that were drawn.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.errors import ConfigError
from schemas.ids import seed_from


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


def drawn(ids: Sequence[str], count: int, seed: int) -> set[int]:
    """Positions of the `count` ids that the seed draws."""
    if count >= len(ids):
        return set(range(len(ids)))
    order = sorted(range(len(ids)), key=lambda i: (seed_from(seed, "mixture", ids[i]), ids[i]))
    return set(order[:count])
