"""Pairs taken apart: every completion by itself, good or bad (KTO)."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

from stages.training.data.token_store import Rows, TokenTable
from stages.training.objectives.preference import PairExample


class Singles(Sequence[PairExample]):
    """The completions of some rows of pairs, each once; item 2i and 2i + 1 are often of a row.

    Each comes with a completion of another prompt, that of the next row on the same side, by which
    the drift of the policy is estimated; it is cut where the two together would be too long.
    """

    def __init__(self, table: TokenTable, rows: Rows, limit: int | None) -> None:
        """`limit`: tokens of prompt and completion together."""
        self._table, self._rows, self._limit = table, rows.tolist(), limit
        self._places = list(self._unique())

    def _unique(self) -> Iterator[tuple[int, int]]:
        seen: set[tuple[bytes, bytes, int]] = set()
        for place, row in enumerate(self._rows):
            prompt, *sides = (np.asarray(part).tobytes() for part in self._table[row].parts)
            for side, completion in enumerate(sides):
                if (prompt, completion, side) not in seen:
                    seen.add((prompt, completion, side))
                    yield place, side

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> PairExample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PairExample]: ...
    def __getitem__(self, index: int | slice) -> PairExample | Sequence[PairExample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place, side = self._places[index]
        stored = self._table[self._rows[place]]
        prompt, *completions = stored.parts
        other = self._other(place, prompt, side)
        room = len(other) if self._limit is None else max(1, self._limit - len(prompt))
        return PairExample(
            f"{stored.key}:{'good' if side == 0 else 'bad'}",
            prompt,
            completions[side],
            other[:room],
            desirable=side == 0,
        )

    def _other(self, place: int, prompt: Sequence[int], side: int) -> Sequence[int]:
        """A completion of the next row with another prompt; of the next row where all are one."""
        count = len(self._rows)
        for step in range(1, count):
            parts = self._table[self._rows[(place + step) % count]].parts
            if list(parts[0]) != list(prompt):
                return parts[1 + side]
        return self._table[self._rows[(place + 1) % count]].parts[1 + side]
