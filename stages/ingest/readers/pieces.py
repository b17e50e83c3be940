"""Raw rows in pieces: what each was read as, in the order of the file, and how it was written."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from stages.ingest.examples import Example, RowError
from stages.ingest.frames.blocks import line_blocks
from stages.ingest.frames.examples import EMPTY, examples_frame
from stages.ingest.frames.json_lines import Lines, flat_texts, keys_of, scan
from stages.ingest.frames.texts import Places, Texts
from stages.ingest.readers.raw_rows import RawRow, json_value, parquet_batches, row_value

Outcome = Example | RowError
Readings = tuple[pl.DataFrame, list[tuple[int, RowError]]]
_PIECE_ROWS = 4096


class RowReader(Protocol):
    """What reading a file asks of its data set; see `sources.FileReader`."""

    flat_fields: ClassVar[tuple[str, ...]]
    table_fields: ClassVar[tuple[str, ...]]

    def is_parquet(self, path: Path) -> bool:
        """Whether that file is read as Parquet."""

    def column_sets(self) -> tuple[tuple[str, ...], ...]:
        """Sets of columns of which a Parquet file must have one whole."""

    def outcomes(self, origin: RawRow) -> Sequence[Outcome]:
        """What one raw row is read as."""

    def read_flat(self, rows: Places, texts: Mapping[str, Texts]) -> pl.DataFrame:
        """Lines of texts alone, as far as nothing is in doubt."""

    def read_table(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Columns, as far as nothing is in doubt."""


class Piece:
    """What a stretch of rows was read as, read when first asked for.

    `raw` gives a row as it was written; `next_row` is the first row after the piece.
    """

    def __init__(
        self, readings: Callable[[], Readings], raw: Callable[[int], str], next_row: int
    ) -> None:
        self._readings = readings
        self.raw = raw
        self.next_row = next_row

    @cached_property
    def readings(self) -> Readings:
        """Examples (a frame as in `columnar.frames`), and row numbers with their errors; both in
        the order of the rows.
        """
        return self._readings()

    def head(self, end: int) -> "Piece":
        """The piece without rows from `end` on."""
        if self.next_row <= end:
            return self

        def readings() -> Readings:
            examples, rejects = self.readings
            kept = [(row, error) for row, error in rejects if row < end]
            return examples.filter(pl.col("row") < end), kept

        return Piece(readings, self.raw, end)


def read_file(dataset: RowReader, file: str, path: Path) -> Iterator[Piece]:
    """The rows of one local file. Raises DataError where the file cannot be read."""
    if dataset.is_parquet(path):
        return _read_parquet(dataset, file, path)
    return _read_lines(dataset, file, path)


def _read_lines(dataset: RowReader, file: str, path: Path) -> Iterator[Piece]:
    keys: list[str] | None = None
    for block in line_blocks(path, file):
        lines = scan(block.data)
        keys = keys or (keys_of(lines, dataset.flat_fields) if dataset.flat_fields else None)
        yield _piece_of_lines(dataset, file, block.first_row, lines, keys)


def _piece_of_lines(
    dataset: RowReader, file: str, first_row: int, lines: Lines, keys: list[str] | None
) -> Piece:
    def clean() -> pl.DataFrame:
        if keys is None:
            return EMPTY
        indices, values = flat_texts(lines, keys)
        return dataset.read_flat(first_row + indices, values) if len(indices) else EMPTY

    def origin(row: int) -> RawRow:
        line = lines.line(row - first_row).rstrip(b"\r\n")
        return RawRow(file, row, json_value(line), line)

    return _piece(dataset, clean, origin, first_row, first_row + len(lines))


def _read_parquet(dataset: RowReader, file: str, path: Path) -> Iterator[Piece]:
    for first_row, batch in parquet_batches(path, file, dataset.column_sets(), _PIECE_ROWS):
        yield _piece_of_batch(dataset, file, first_row, batch)


def _piece_of_batch(dataset: RowReader, file: str, first_row: int, batch: pa.RecordBatch) -> Piece:
    fields = [name for name in batch.schema.names if name in dataset.table_fields]

    def clean() -> pl.DataFrame:
        if not fields or not _is_utf8(needed := batch.select(fields)):
            return EMPTY
        frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([needed])))
        rows = pl.int_range(first_row, first_row + batch.num_rows, eager=True)
        return dataset.read_table(frame.with_columns(row=rows))

    def origin(row: int) -> RawRow:
        value, undecodable = row_value(batch.slice(row - first_row, 1))
        return RawRow(file, row, value, undecodable)

    return _piece(dataset, clean, origin, first_row, first_row + batch.num_rows)


def _is_utf8(batch: pa.RecordBatch) -> bool:
    """Whether every text is UTF-8, which Parquet states and nobody checks."""
    try:
        batch.validate(full=True)
    except pa.ArrowException:
        return False
    return True


def read_rows(
    outcomes: Callable[[RawRow], Sequence[Outcome]], origins: Iterable[RawRow]
) -> Iterator[Piece]:
    """Rows that come one by one, such as a hub's."""
    for held in _batches(origins):

        def readings(held: list[RawRow] = held) -> Readings:
            return split_outcomes([(o.row, found) for o in held for found in outcomes(o)])

        def raw(row: int, held: list[RawRow] = held) -> str:
            return held[row - held[0].row].raw

        yield Piece(readings, raw, held[-1].row + 1)


def read_examples(file: str, examples: Iterable[Example]) -> Iterator[Piece]:
    """Examples that are made, not found."""
    made = [RawRow(file, row, {"example": example}) for row, example in enumerate(examples)]
    return read_rows(lambda origin: [_made(origin)], made)


def _made(origin: RawRow) -> Example:
    assert isinstance(origin.value, Mapping)
    example: Example = origin.value["example"]
    return example


def _batches(origins: Iterable[RawRow]) -> Iterator[list[RawRow]]:
    rows = iter(origins)
    while held := list(islice(rows, _PIECE_ROWS)):
        yield held


def _piece(
    dataset: RowReader,
    clean: Callable[[], pl.DataFrame],
    origin: Callable[[int], RawRow],
    first_row: int,
    next_row: int,
) -> Piece:
    """Put the clean rows and those that `parse` has to decide on in the order of the file."""
    rejected: dict[int, RawRow] = {}  # will be asked for again

    def outcomes(row: int) -> Sequence[Outcome]:
        read = origin(row)
        found = dataset.outcomes(read)
        if any(isinstance(one, RowError) for one in found):
            rejected[row] = read
        return found

    def readings() -> Readings:
        fast = clean()
        known = np.zeros(next_row - first_row, bool)
        known[fast["row"].to_numpy() - first_row] = True
        doubtful = first_row + np.flatnonzero(~known)
        slow, rejects = split_outcomes(
            [(row, found) for row in doubtful.tolist() for found in outcomes(row)]
        )
        if len(slow):
            fast = pl.concat([fast, slow]).sort("row", maintain_order=True)
        return fast, rejects

    return Piece(readings, lambda row: (rejected.get(row) or origin(row)).raw, next_row)


def split_outcomes(outcomes: Sequence[tuple[int, Outcome]]) -> Readings:
    """Examples as a frame, and rejects; an example that is no text after all is one of these."""
    examples = [(row, found) for row, found in outcomes if not isinstance(found, RowError)]
    # A traceback would keep the whole block alive.
    rejects = [
        (row, found.with_traceback(None)) for row, found in outcomes if isinstance(found, RowError)
    ]
    if not examples:
        return EMPTY, rejects
    try:
        return examples_frame(examples), rejects
    except UnicodeEncodeError:
        return split_outcomes([(row, _checked(found)) for row, found in outcomes])


def _checked(outcome: Outcome) -> Outcome:
    """The outcome, or a reject where it holds half a character."""
    if isinstance(outcome, RowError):
        return outcome
    try:
        examples_frame([(0, outcome)])
    except UnicodeEncodeError:
        return RowError("lone_surrogate", "the text holds half a character")
    return outcome
