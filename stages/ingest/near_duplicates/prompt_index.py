"""What is known of every prompt when near-duplicates are settled, on disk."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.ingest.near_duplicates.keys import KEY, id_keys
from stages.ingest.near_duplicates.minhash import shingles
from stages.ingest.near_duplicates.prompts import Prompts
from stages.ingest.near_duplicates.scratch import Scratch
from stages.ingest.near_duplicates.search import Groups, Surplus, surplus
from stages.ingest.near_duplicates.text_index import TextIndex
from stages.ingest.near_duplicates.words import Words
from stages.ingest.splits import ORDER


@dataclass(frozen=True)
class HeldOut:
    """By split the keys, ascending, of prompts that join it because of near copies.

    Of `prompts` in all, `asked` were held out by hash or by their source, `more` are besides.
    """

    joins: Mapping[str, NDArray[np.bytes_]]
    prompts: int
    asked: int
    more: int


class PromptIndex:
    """The texts, keys and splits of prompts. In memory it is 17 bytes a prompt while it answers."""

    def __init__(self, scratch: Scratch) -> None:
        self._texts = TextIndex(scratch)
        self._keys = scratch.column("keys", KEY)
        self._levels = scratch.column("levels", "u1")

    def add(self, prompts: Prompts, words: Words) -> None:
        """Take prompts with the words of their texts."""
        self._texts.add(shingles(words))
        self._keys.append(id_keys(prompts.ids))
        self._levels.append(prompts.levels)

    def held_out_together(self, threshold: float) -> HeldOut:
        """The prompts that are held out because of near copies."""
        groups = Groups(len(self._texts))
        for pairs, _ in self._texts.near_pairs(threshold, wanted=groups.apart):
            groups.join(pairs)
        before, keys = self._levels.whole(), self._keys.whole()
        after = groups.held_out_together(before)
        joins = {
            split: np.sort(keys[(after == level) & (before < level)])
            for level, split in enumerate(ORDER)
        }
        held_out = int((before > 0).sum())
        return HeldOut(joins, len(before), held_out, int((after > 0).sum()) - held_out)

    def surplus(self, threshold: float) -> Surplus:
        """The prompts that are dropped so that no near pair is left."""
        near = self._texts.near_pairs(threshold)
        return surplus(near, self._levels.whole(), self._keys.whole())
