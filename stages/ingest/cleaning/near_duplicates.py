"""Near-duplicate prompts: found by MinHash, confirmed by exact Jaccard, kept in one split.

Splits are by the prompt's own hash, so a reworded copy may fall on the other side. Either all near
copies of a held-out prompt are held out with it, or only one of each group is kept. In both cases
a prompt that was held out stays held out when rows are added.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from schemas.stage import Config
from stages.ingest.examples import RowError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.ingest.cleaning.words import Words

_ESTIMATE_MARGIN = 0.2
"""Four standard errors of a similarity estimated from 80 places, at 0.7."""


class NearDuplicates(Config):
    """What becomes of prompts that say nearly the same."""

    policy: Literal["one_split", "drop", "off"] = Field(
        "one_split",
        description="one_split: near copies of a held-out prompt are held out with it; drop: only "
        "one of them is kept, a held-out one where there is one; off: nobody looks for them",
    )
    threshold: float = Field(
        0.7, ge=0.7, le=1, description="least Jaccard similarity of the sets of word triples"
    )


def near_pairs(
    sets: "Words", threshold: float
) -> tuple["NDArray[np.int64]", "NDArray[np.float64]"]:
    """[pairs, 2] texts (lower index first) at least `threshold` alike, and [pairs] how alike.

    Args:
        sets: the texts' `minhash.shingles`.
        threshold: from 0.7 to 1.

    Every pair is confirmed exactly; one at 0.7 is found with probability 0.996, at 0.8 with
    0.99998. Texts without any word are like nothing. Memory is 4 bytes a word and about 330 a text.
    """
    import numpy as np

    from stages.ingest.cleaning import minhash

    filled = np.flatnonzero(np.diff(sets.offsets) > 0)
    found = minhash.signatures(sets)
    pairs = minhash.candidates(found, filled)
    agreeing = (found[pairs[:, 0]] == found[pairs[:, 1]]).mean(1)
    pairs = pairs[agreeing >= threshold - _ESTIMATE_MARGIN]
    similarity = minhash.jaccard(sets, pairs)
    near = similarity >= threshold
    return pairs[near], similarity[near]


def held_out_together(pairs: Iterable[tuple[int, int]], splits: Sequence[str]) -> dict[int, str]:
    """Splits that change so that no near pair is divided: index -> test.

    Groups are the connected components of the pairs; a group with one held-out member is held
    out whole. More rows can only hold out more: nothing held out ever moves into train.
    """
    roots = _components(pairs)
    held_out = {root for index, root in roots.items() if splits[index] == "test"}
    return {
        index: "test"
        for index, root in sorted(roots.items())
        if root in held_out and splits[index] != "test"
    }


def surplus(
    pairs: Iterable[tuple[int, int]],
    similarity: Sequence[float],
    splits: Sequence[str],
    ids: Sequence[str],
) -> dict[int, RowError]:
    """The texts to drop so that no near pair is left: index -> why.

    Held-out prompts are kept first, then by id; one is dropped only where it is near one that is
    kept, so a chain of small changes loses no more than it must.
    """
    near: dict[int, dict[int, float]] = {}
    for (left, right), alike in zip(pairs, similarity, strict=True):
        near.setdefault(left, {})[right] = near.setdefault(right, {})[left] = float(alike)
    dropped: dict[int, RowError] = {}
    for index in sorted(near, key=lambda i: (splits[i] != "test", ids[i])):
        kept = [n for n in near[index] if n not in dropped and _before(n, index, splits, ids)]
        if kept:
            like = min(kept, key=lambda n: (-near[index][n], ids[n]))
            dropped[index] = RowError(
                "near_duplicate",
                f"{near[index][like]:.0%} of its word triples are those of prompt {ids[like]}",
            )
    return dropped


def _before(left: int, right: int, splits: Sequence[str], ids: Sequence[str]) -> bool:
    return (splits[left] != "test", ids[left]) < (splits[right] != "test", ids[right])


def _components(pairs: Iterable[tuple[int, int]]) -> Mapping[int, int]:
    """Every index in a pair -> the lowest index of its connected component."""
    parent: dict[int, int] = {}

    def root(index: int) -> int:
        while parent.setdefault(index, index) != index:
            parent[index] = index = parent[parent[index]]
        return index

    for left, right in pairs:
        low, high = sorted((root(left), root(right)))
        parent[high] = low
    return {index: root(index) for index in list(parent)}
