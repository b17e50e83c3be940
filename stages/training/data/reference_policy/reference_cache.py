"""Reference log-probabilities that runs share on disk, one pair at a time.

They are kept by what they follow from and nothing else: the reference's weights and how it is run,
and the pair's tokens. Learning rate, epochs, output directory and other pairs do not matter.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.ids import content_id
from schemas.parquet import read_table, write_table
from schemas.tables import Table
from stages.training.data.disk_cache import DiskCache
from stages.training.objectives.preference import PairExample

Logps = np.ndarray[Any, np.dtype[np.float64]]


PAIR_LOGPS = Table(
    name="pair_logps",
    schema=pa.schema(
        [
            # SHA-256 of the tokens of prompt, chosen and rejected.
            pa.field("tokens", pa.binary(32), nullable=False),
            pa.field("chosen_logps", pa.float64(), nullable=False),
            pa.field("rejected_logps", pa.float64(), nullable=False),
        ]
    ),
    key=("tokens",),
)


def tokens_digest(pair: PairExample) -> bytes:
    """SHA-256 of a pair's tokens, 32 bytes."""
    parts = [np.asarray(p, dtype="<i4") for p in (pair.prompt_ids, *pair.branches)]
    digest = hashlib.sha256(np.array([len(part) for part in parts], dtype="<i8").tobytes())
    for part in parts:
        digest.update(part.tobytes())
    return digest.digest()


class ReferenceCache:
    """What one reference policy, run in one way, has said of pairs so far."""

    def __init__(self, cache: DiskCache, *reference: str) -> None:
        """`reference` names weights, number format and whatever else the numbers depend on."""
        self._cache = cache
        self._folder = f"reference/{content_id('reference-logps', *reference)}"

    def look_up(self, digests: Sequence[bytes]) -> Logps:
        """Log-probabilities of chosen and rejected (n, 2), NaN where they are not known yet."""
        found = np.full((len(digests), 2), np.nan)
        wanted = pa.array(digests, pa.binary(32))
        for folder in self._cache.entries(self._folder):
            shard = read_table(folder / PAIR_LOGPS.file_name, PAIR_LOGPS)
            places = pc.index_in(wanted, value_set=shard["tokens"].combine_chunks())
            here = places.is_valid().to_numpy(zero_copy_only=False)
            rows = places.drop_null().to_numpy()
            for column, name in enumerate(("chosen_logps", "rejected_logps")):
                found[here, column] = shard[name].to_numpy()[rows]
        return found

    def add(self, digests: Sequence[bytes], logps: Logps) -> None:
        """Keep log-probabilities (n, 2); they are on disk when this returns."""
        unique = dict(zip(digests, logps.tolist(), strict=True))
        rows = [
            {"tokens": digest, "chosen_logps": chosen, "rejected_logps": rejected}
            for digest, (chosen, rejected) in sorted(unique.items())
        ]

        def write(folder: Path) -> None:
            write_table(folder / PAIR_LOGPS.file_name, PAIR_LOGPS, rows)

        self._cache.put(
            f"{self._folder}/{hashlib.sha256(b''.join(unique)).hexdigest()[:32]}", write
        )
