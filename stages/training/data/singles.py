"""Completions by themselves, good or bad (KTO): pairs taken apart, and answers never paired."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from evals.models.rendering import ChatRenderer
from schemas.ids import file_sha256
from schemas.parquet import iter_batches, rows_of
from schemas.stage import StageContext
from schemas.tables import DECIDING, UNPAIRED
from stages.training.config import Truncation
from stages.training.data.config import WhichPairs
from stages.training.data.disk_cache import DiskCache
from stages.training.data.rows.rejects import Rejects
from stages.training.data.rows.render_rows import NEUTRALISED, Candidate, token_items
from stages.training.data.rows.token_store import Rows, TokenItem, TokenTable
from stages.training.data.rows.tokens import cached_tokens
from stages.training.objectives.preference import PairExample

DESIRABLE = "desirable"


def unpaired_answers(context: StageContext, which: WhichPairs = "auto") -> Path | None:
    """The table of answers without a counterpart that ingest has kept, where `which` takes it."""
    on_policy = which == "sampled" or (which == "auto" and context.has("label"))
    if on_policy or not context.has("ingest"):
        return None
    path = context.inputs["ingest"] / UNPAIRED.file_name  # ingests of before have none
    return path if path.exists() else None


def open_unpaired(
    path: Path,
    renderer: ChatRenderer,
    limit: int | None,
    cache: DiskCache,
    rejects: Rejects,
    truncation: Truncation,
    *,
    reasoning: bool = True,
) -> TokenTable:
    """The answers that can be used, in tokens: prompt and completion; the number `desirable`."""

    def batches(aside: Rejects) -> Iterator[list[TokenItem]]:
        for batch in iter_batches(path, UNPAIRED, 1024, DECIDING):
            rated = [(row, {DESIRABLE: float(row[DESIRABLE])}) for row in rows_of(batch)]
            candidates = [
                Candidate(row["unpaired_id"], row, (row["completion"],), sign)
                for row, sign in rated
            ]
            yield list(
                token_items(renderer, candidates, limit, aside, truncation, reasoning=reasoning)
            )

    made_of = [renderer.fingerprint, str(limit), truncation.model_dump_json(), str(reasoning)]
    made_of.append(f"{UNPAIRED.name}:{file_sha256(path)}")
    numbers = (DESIRABLE, NEUTRALISED)
    return cached_tokens(cache, made_of, batches, rejects, parts=2, numbers=numbers)


class Singles(Sequence[PairExample]):
    """The completions of some rows of pairs, each once, and then answers that were never paired.

    Items 2i and 2i + 1 are often of one pair. Each comes with a completion of another prompt, that
    of the next row on the same side (of the next answer among those never paired), by which the
    drift of the policy is estimated; it is cut where the two together would be too long.
    """

    def __init__(
        self,
        table: TokenTable,
        rows: Rows,
        limit: int | None,
        unpaired: TokenTable | None = None,
        alone: Rows | None = None,
    ) -> None:
        """`limit`: tokens of prompt and completion together; `alone` are rows of `unpaired`."""
        self._limit = limit
        self._sets = [(table, rows.tolist())]
        if unpaired is not None and alone is not None:
            self._sets.append((unpaired, alone.tolist()))
            self._good = unpaired.numbers(DESIRABLE) > 0
        self._places = list(self._unique())

    def _unique(self) -> Iterator[tuple[int, int, int]]:
        """Of which set, where in it, and which side; the side of an answer alone is 0."""
        seen: set[tuple[bytes, bytes, bool]] = set()
        for number, (table, rows) in enumerate(self._sets):
            for place, row in enumerate(rows):
                prompt, *sides = (np.asarray(part).tobytes() for part in table[row].parts)
                for side, completion in enumerate(sides):
                    known = (prompt, completion, self._is_good(number, row, side))
                    if known not in seen:
                        seen.add(known)
                        yield number, place, side

    def _is_good(self, number: int, row: int, side: int) -> bool:
        return bool(self._good[row]) if number else side == 0

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> PairExample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PairExample]: ...
    def __getitem__(self, index: int | slice) -> PairExample | Sequence[PairExample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number, place, side = self._places[index]
        table, rows = self._sets[number]
        stored = table[rows[place]]
        prompt, *completions = stored.parts
        other = self._other(number, place, prompt, side)
        room = len(other) if self._limit is None else max(1, self._limit - len(prompt))
        good = self._is_good(number, rows[place], side)
        return PairExample(
            f"{stored.key}:{'good' if good else 'bad'}",
            prompt,
            completions[side],
            other[:room],
            desirable=good,
        )

    def _other(self, number: int, place: int, prompt: Sequence[int], side: int) -> Sequence[int]:
        """A completion of the next row with another prompt; of the next row where all are one."""
        table, rows = self._sets[number]
        count = len(rows)
        for step in range(1, count):
            parts = table[rows[(place + step) % count]].parts
            if list(parts[0]) != list(prompt):
                return parts[1 + side]
        return table[rows[(place + 1) % count]].parts[1 + side]
