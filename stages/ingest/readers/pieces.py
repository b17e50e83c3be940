"""Raw rows in pieces: what each was read as, in the order of the file, and how it was written."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from evals.files.opening.formats import Format
from stages.ingest.examples import Example, RowError
from stages.ingest.frames.blocks import LineBlock, line_blocks
from stages.ingest.frames.examples import EMPTY, examples_frame
from stages.ingest.frames.json_lines import Lines, flat_texts, keys_of, scan
from stages.ingest.frames.texts import Places, Texts
from stages.ingest.readers.columns import renamed
from stages.ingest.readers.raw_rows import RawRow, raw_line, row_of_table
from stages.ingest.readers.tables import PIECE_ROWS, TablePiece, read_tables

Outcome = Example | RowError
Readings = tuple[pl.DataFrame, list[tuple[int, RowError]]]


class RowReader(Protocol):
    """What reading a file asks of its data set; see `sources.FileReader`."""

    flat_fields: ClassVar[tuple[str, ...]]
    table_fields: ClassVar[tuple[str, ...]]

    names: Mapping[str, str]
    """Of our columns those that have other names in the files: ours -> theirs."""

    def format_of(self, path: Path) -> Format:
        """What that file is read as."""

    def check_columns(self, file: str, found: Sequence[str]) -> None:
        """Refuse a table with columns that cannot be read. Raises DataError."""

    def outcomes(self, origin: RawRow) -> Sequence[Outcome]:
        """What one raw row is read as."""

    def read_flat(self, rows: Places, texts: Mapping[str, Texts]) -> pl.DataFrame:
        """Lines of texts alone, as far as nothing is in doubt."""

    def read_table(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Columns, as far as nothing is in doubt."""


@dataclass(frozen=True)
class Piece:
    """What a stretch of rows was read as, read when first asked for.

    `raw` gives a row as it was written; `next_row` is the first row after the piece; `columns` says
    in how many rows each column of the file has a value.
    """

    read: Callable[[], Readings]
    raw: Callable[[int], str]
    next_row: int
    columns: Callable[[], Mapping[str, int]] = dict

    @cached_property
    def readings(self) -> Readings:
        """Examples (a frame as in `frames.examples`), and row numbers with their errors; both in
        the order of the rows.
        """
        return self.read()

    def head(self, end: int) -> "Piece":
        """The piece without rows from `end` on."""
        if self.next_row <= end:
            return self

        def readings() -> Readings:
            examples, rejects = self.readings
            kept = [(row, error) for row, error in rejects if row < end]
            return examples.filter(pl.col("row") < end), kept

        return Piece(readings, self.raw, end, self.columns)


def read_file(dataset: RowReader, file: str, path: Path) -> Iterator[Piece]:
    """The rows of one local file. Raises DataError where the file cannot be read."""
    format_ = dataset.format_of(path)
    if format_ != "json":
        tables = read_tables(path, file, format_, dataset.check_columns)
        return pieces_of_tables(dataset, file, tables)
    return _read_lines(dataset, file, path)


def _read_lines(dataset: RowReader, file: str, path: Path) -> Iterator[Piece]:
    keys: list[str] | None = None
    wanted = [dataset.names.get(name, name) for name in dataset.flat_fields]
    for block in line_blocks(path, file):
        lines = scan(block.data)
        keys = keys or (keys_of(lines, wanted) if wanted else None)
        yield _piece_of_lines(dataset, file, block, lines, keys)


def _piece_of_lines(
    dataset: RowReader, file: str, block: LineBlock, lines: Lines, keys: list[str] | None
) -> Piece:
    first_row = block.first_row

    def clean() -> pl.DataFrame:
        if keys is None:
            return EMPTY
        indices, values = flat_texts(lines, keys)
        if not len(indices):
            return EMPTY
        return dataset.read_flat(first_row + indices, dict(renamed(dataset.names, values)))

    def origin(row: int) -> RawRow:
        return raw_line(file, row, lines.line(row - first_row), block.too_long)

    def columns(clean_rows: int, others: Iterable[RawRow]) -> Mapping[str, int]:
        found = Counter(dict.fromkeys(keys or (), clean_rows))
        for value in (o.value for o in others if isinstance(o.value, Mapping)):
            found.update(name for name, said in value.items() if said is not None)
        return found

    return _piece(dataset, clean, origin, (first_row, first_row + len(lines)), columns)


def pieces_of_tables(
    dataset: RowReader, file: str, tables: Iterable[TablePiece]
) -> Iterator[Piece]:
    """Rows that come as columns: of a file, or of a hub's data set."""
    for table in tables:
        yield _piece_of_table(dataset, file, table)


def _piece_of_table(dataset: RowReader, file: str, piece: TablePiece) -> Piece:
    first_row, next_row = piece.first_row, piece.first_row + piece.table.num_rows
    theirs = {name: piece.table[name] for name in piece.table.column_names}
    ours = renamed(dataset.names, theirs)
    fields = {name: column for name, column in ours.items() if name in dataset.table_fields}

    def clean() -> pl.DataFrame:
        if not fields or not _is_utf8(needed := pa.table(fields)):
            return EMPTY
        frame = pl.DataFrame(pl.from_arrow(needed))
        rows = pl.int_range(first_row, next_row, eager=True)
        return dataset.read_table(frame.with_columns(row=rows))

    def origin(row: int) -> RawRow:
        return row_of_table(file, piece, row)

    def columns(clean_rows: int, others: Iterable[RawRow]) -> Mapping[str, int]:
        return {name: len(column) - column.null_count for name, column in theirs.items()}

    return _piece(dataset, clean, origin, (first_row, next_row), columns)


def _is_utf8(table: pa.Table) -> bool:
    """Whether every text is UTF-8, which Parquet states and nobody checks."""
    try:
        table.validate(full=True)
    except pa.ArrowException:
        return False
    return True


def read_examples(file: str, examples: Iterable[Example]) -> Iterator[Piece]:
    """Examples that are made, not found."""
    rows = enumerate(examples)
    while held := list(islice(rows, PIECE_ROWS)):

        def raw(row: int, made: Mapping[int, Example] = dict(held)) -> str:
            return RawRow(file, row, {"example": made[row]}).raw

        yield Piece(partial(split_outcomes, held), raw, held[-1][0] + 1)


def _piece(
    dataset: RowReader,
    clean: Callable[[], pl.DataFrame],
    origin: Callable[[int], RawRow],
    bounds: tuple[int, int],
    columns: Callable[[int, Iterable[RawRow]], Mapping[str, int]],
) -> Piece:
    """Put the clean rows and those that `parse` has to decide on in the order of the file.

    `columns` counts values by how many rows were clean, and those that were not.
    """
    first_row, next_row = bounds
    rejected: dict[int, RawRow] = {}  # will be asked for again
    counted: dict[str, int] = {}

    def outcomes(read: RawRow) -> Sequence[Outcome]:
        found = dataset.outcomes(read)
        if any(isinstance(one, RowError) for one in found):
            rejected[read.row] = read
        return found

    def readings() -> Readings:
        fast = clean()
        known = np.zeros(next_row - first_row, bool)
        known[fast["row"].to_numpy() - first_row] = True
        if len(fast):  # so that it is known what is looked at
            dataset.outcomes(origin(int(fast["row"][0])))
        doubtful = [origin(row) for row in (first_row + np.flatnonzero(~known)).tolist()]
        slow, rejects = split_outcomes(
            [(read.row, found) for read in doubtful for found in outcomes(read)]
        )
        counted.update(columns(int(known.sum()), doubtful))
        if len(slow):
            fast = pl.concat([fast, slow]).sort("row", maintain_order=True)
        return fast, rejects

    def raw(row: int) -> str:
        return (rejected.get(row) or origin(row)).raw

    return Piece(readings, raw, next_row, lambda: counted)


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
