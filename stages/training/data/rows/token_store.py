"""Tokens of a data set in an Arrow file, mapped into memory and read where they are asked for.

An item is a prompt with one or several completions. A row of the file has its key, its split, all
of its tokens end to end, and the lengths of prompt and completions; numbers that belong to an item
(a margin, say) are further columns. Any Arrow reader opens the file.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import ConfigError

Rows = np.ndarray[Any, np.dtype[np.int64]]


TOKENS_FILE = "tokens.arrow"

Item = TypeVar("Item")


@dataclass(frozen=True)
class TokenItem:
    """An item on its way to the file: prompt and completions, at least one token each."""

    key: str
    split: str
    parts: Sequence[Sequence[int]]
    numbers: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredItem:
    """A row as it is read. `parts` are int32 views of the file: prompt, then completions."""

    row: int
    key: str
    parts: Sequence[Sequence[int]]


def write_tokens(
    path: Path, batches: Iterable[Sequence[TokenItem]], parts: int, numbers: Sequence[str] = ()
) -> None:
    """Write items of `parts` parts each, one batch at a time; keys must be unique."""
    schema = pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("split", pa.string(), nullable=False),
            pa.field("tokens", pa.list_(pa.int32()), nullable=False),
            pa.field("lengths", pa.list_(pa.int32(), parts), nullable=False),
            *(pa.field(name, pa.float64()) for name in numbers),
        ]
    )
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for batch in batches:
            writer.write_batch(_record_batch(batch, schema, parts, numbers))


def _record_batch(
    items: Sequence[TokenItem], schema: pa.Schema, parts: int, numbers: Sequence[str]
) -> pa.RecordBatch:
    lengths = np.array([len(part) for item in items for part in item.parts], dtype=np.int32)
    sizes = lengths.reshape(-1, parts).sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    flat = [np.asarray(part, dtype=np.int32) for item in items for part in item.parts]
    tokens = np.concatenate(flat) if flat else np.empty(0, dtype=np.int32)
    columns = [
        pa.array([item.key for item in items], pa.string()),
        pa.array([item.split for item in items], pa.string()),
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(tokens)),
        pa.FixedSizeListArray.from_arrays(pa.array(lengths), parts),
        *(pa.array([item.numbers.get(name) for item in items], pa.float64()) for name in numbers),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


class TokenTable:
    """The file that `write_tokens` wrote, mapped: only what is looked at is in memory."""

    def __init__(self, path: Path) -> None:
        """Map the file. Raises FileNotFoundError where there is none."""
        self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, row: int) -> StoredItem:
        chunk = bisect_right(self._starts, row) - 1
        values, offsets = self._chunks[chunk]
        end = int(offsets[row - self._starts[chunk]])
        parts = []
        for length in self.lengths[row].tolist():
            parts.append(values[end : end + length])
            end += length
        return StoredItem(row, str(self._keys[row].as_py()), parts)

    def split(self, name: str) -> Rows:
        """Rows of one split, in the order of their keys: int64 (n,)."""
        rows = np.flatnonzero(pc.equal(self._table["split"], name).to_numpy(zero_copy_only=False))
        order = pc.array_sort_indices(self._table["key"].take(pa.array(rows)).combine_chunks())
        ordered: Rows = rows[order.to_numpy()]
        return ordered

    def numbers(self, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """One of the further columns, NaN where an item has no value: float64 (len,)."""
        return self._table[name].to_numpy()  # type: ignore[no-any-return]

    def count(self, name: str) -> int:
        """How many items have one of the further columns above zero."""
        return int((self.numbers(name) > 0).sum())

    def refuse_foreign_tokens(self, vocabulary: int) -> None:
        """Raises ConfigError where an item has a token that a model of so many does not know."""
        highest = pc.max(pc.list_flatten(self._table["tokens"])).as_py()
        if highest is not None and highest >= vocabulary:
            raise ConfigError(
                f"the tokenizer gives token {highest}, and the model has embeddings for "
                f"{vocabulary} tokens only: the two do not belong together; save the model with "
                "its own tokenizer, or with as many embeddings as the tokenizer has tokens"
            )

    @cached_property
    def lengths(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Tokens of prompt and completions of every item: int32 (len, parts)."""
        column = self._table["lengths"]
        flat = column.combine_chunks().flatten().to_numpy()
        return flat.reshape(len(self), column.type.list_size)  # type: ignore[no-any-return]

    @cached_property
    def _keys(self) -> pa.Array:
        return self._table["key"].combine_chunks()

    @cached_property
    def _starts(self) -> list[int]:
        """The first row of every chunk."""
        sizes = [len(chunk) for chunk in self._table["tokens"].chunks]
        return list(accumulate(sizes, initial=0))[:-1]

    @cached_property
    def _chunks(self) -> list[tuple[memoryview, np.ndarray[Any, np.dtype[np.int32]]]]:
        """Of every chunk all tokens, and where each row begins among them."""
        return [
            (memoryview(chunk.values.to_numpy()), chunk.offsets.to_numpy())
            for chunk in self._table["tokens"].chunks
        ]


class TokenView(Sequence[Item], Generic[Item]):
    """Some rows of a table as items, each made when it is asked for and kept nowhere."""

    def __init__(self, table: TokenTable, rows: Rows, make: Callable[[StoredItem], Item]) -> None:
        self._table = table
        self._rows = rows
        self._make = make

    @property
    def num_completion_tokens(self) -> int:
        """Tokens of all completions together."""
        return int(self._table.lengths[self._rows][:, 1:].sum())

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> "TokenView[Item]": ...
    def __getitem__(self, index: int | slice) -> "Item | TokenView[Item]":
        if isinstance(index, slice):
            return TokenView(self._table, self._rows[index], self._make)
        return self._make(self._table[int(self._rows[index])])
