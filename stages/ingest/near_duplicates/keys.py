"""Ids as 16 bytes each, which sort like the ids and are looked up by the thousand."""

from collections.abc import Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from stages.ingest.frames.identities import hex_keys

KEY = "S16"
"""The type of keys: compared as bytes, all sixteen of them, as shorter ones are filled with zeros.
"""
NO_KEYS: NDArray[np.bytes_] = np.empty(0, KEY)


def id_keys(ids: pl.Series | Iterable[str]) -> NDArray[np.bytes_]:
    """[ids] keys of ids of 32 hex digits."""
    halves = hex_keys(ids if isinstance(ids, pl.Series) else pl.Series("", [*ids], pl.String))
    keys: NDArray[np.bytes_] = halves.astype(">u8").view(KEY).ravel()
    return keys


def places_among(known: NDArray[np.bytes_], keys: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """[keys] where each stands in `known`, which ascends; -1 where it does not."""
    if not len(known):
        return np.full(len(keys), -1)
    places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[places] == keys, places, -1)
