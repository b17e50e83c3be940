"""What is known of every prompt when near-duplicates are settled, on disk."""

import numpy as np
from numpy.typing import NDArray

from stages.ingest.near_duplicates.keys import KEY, id_keys
from stages.ingest.near_duplicates.minhash import shingles
from stages.ingest.near_duplicates.prompts import Prompts
from stages.ingest.near_duplicates.scratch import Scratch
from stages.ingest.near_duplicates.search import Groups, Surplus, surplus
from stages.ingest.near_duplicates.text_index import TextIndex
from stages.ingest.near_duplicates.words import Words


class PromptIndex:
    """The texts, keys and splits of prompts. In memory it is 17 bytes a prompt while it answers."""

    def __init__(self, scratch: Scratch) -> None:
        self._texts = TextIndex(scratch)
        self._keys = scratch.column("keys", KEY)
        self._test = scratch.column("test", "?")

    def add(self, prompts: Prompts, words: Words) -> None:
        """Take prompts with the words of their texts."""
        self._texts.add(shingles(words))
        self._keys.append(id_keys(prompts.ids))
        self._test.append(prompts.test)

    def held_out_together(self, threshold: float) -> NDArray[np.bytes_]:
        """Keys, ascending, of the prompts that are held out because of near copies."""
        groups = Groups(len(self._texts))
        for pairs, _ in self._texts.near_pairs(threshold, wanted=groups.apart):
            groups.join(pairs)
        moves = groups.held_out_together(self._test.whole())
        return np.sort(self._keys.whole()[moves])

    def surplus(self, threshold: float) -> Surplus:
        """The prompts that are dropped so that no near pair is left."""
        near = self._texts.near_pairs(threshold)
        return surplus(near, self._test.whole(), self._keys.whole())
