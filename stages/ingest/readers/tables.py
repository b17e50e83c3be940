"""Tables of raw rows: Parquet, Arrow, CSV and a hub's data, in pieces that fit into memory."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evals.files.opening.formats import Format
from evals.files.opening.unpacking import Unpacked, unpacked
from schemas.errors import BackendError, DataError
from schemas.files import first_line
from schemas.parquet import row_bytes
from stages.ingest.examples import RowError
from stages.ingest.frames.blocks import MAX_ROW_BYTES
from stages.ingest.readers.arrow_bounds import check_message, rows_at_once
from stages.ingest.readers.columns import Check

PIECE_ROWS = 4096
_PIECE_BYTES = 32 << 20


@dataclass(frozen=True)
class TablePiece:
    """Some rows of a table; `errors` are those that could not be read, null in all columns."""

    first_row: int
    table: pa.Table
    errors: Mapping[int, RowError] = field(default_factory=dict)


def read_tables(path: Path, file: str, format_: Format, check: Check) -> Iterator[TablePiece]:
    """The rows of a file of any format but JSON, in pieces.

    Raises:
        DataError: the file is empty, cut off, something else, or has other columns.
    """
    read = {"parquet": _parquet, "arrow": _arrow, "csv": _csv}[format_]
    rows = 0
    for piece in _sized(read(path, file, check)):
        rows = piece.first_row + piece.table.num_rows
        yield piece
    if rows == 0:
        raise DataError(f"{file}: the file has no rows; fetch it again or leave it out")


def read_hub(
    hub_id: str,
    *,
    revision: str,
    subset: str | None,
    folder: str | None,
    split: str,
    streaming: bool = False,
    check: Check = lambda file, names: None,
) -> Iterator[TablePiece]:
    """The rows of one split of a data set on a hub, as `datasets` holds them: as Arrow.

    With `streaming` nothing is kept on disk, and no more is fetched than what is read.

    Raises:
        BackendError: the hub, the data set or the split cannot be had.
        DataError: it has other columns.
    """
    file = "/".join(filter(None, (f"hub:{hub_id}@{revision}", subset, folder, split)))
    try:
        import datasets

        rows = datasets.load_dataset(
            hub_id,
            name=subset,
            data_dir=folder,
            revision=revision,
            split=split,
            streaming=streaming,
        )
        yield from _sized(_hub_tables(rows, file, check))
    except DataError:
        raise
    except Exception as error:  # whatever the loader and the network below it raise
        raise BackendError(
            f"{file}: cannot be loaded ({type(error).__name__}: {first_line(error)}); check the "
            "name and the network, or download its files and set path instead of hub_id"
        ) from error


def _hub_tables(rows: Any, file: str, check: Check) -> Iterator[TablePiece]:
    at = 0
    for table in rows.with_format("arrow").iter(batch_size=PIECE_ROWS):
        check(file, table.column_names)
        yield TablePiece(at, table)
        at += table.num_rows


def _sized(pieces: Iterator[TablePiece]) -> Iterator[TablePiece]:
    """Pieces of at most PIECE_ROWS rows and about _PIECE_BYTES bytes; rows that are too large are
    errors.
    """
    for piece in pieces:
        sizes = row_bytes(piece.table)
        errors = {
            int(at) + piece.first_row: RowError(
                "row_too_long",
                f"the row has {sizes[at] >> 20} MB, and no row may have {MAX_ROW_BYTES >> 20}",
            )
            for at in np.flatnonzero(sizes > MAX_ROW_BYTES)
        }
        for start, end in _cuts(sizes):
            first, table = piece.first_row + start, piece.table.slice(start, end - start)
            here = {**piece.errors, **errors}
            if first in errors:
                nulls = [pa.nulls(1, column.type) for column in table.schema]
                table = pa.table(nulls, table.column_names)
            yield TablePiece(first, table, here)


def _cuts(sizes: Any) -> Iterator[tuple[int, int]]:
    """Bounds of pieces; a row that is too large for any is a piece of its own."""
    ends = np.cumsum(np.minimum(sizes, MAX_ROW_BYTES + 1))
    start = 0
    while start < len(sizes):
        before = ends[start - 1] if start else 0
        fits = int(np.searchsorted(ends, before + _PIECE_BYTES, side="right"))
        end = min(max(start + 1, fits), start + PIECE_ROWS, len(sizes))
        yield start, end
        start = end


def _parquet(path: Path, file: str, check: Check) -> Iterator[TablePiece]:
    row, held = 0, _Held()
    try:
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as parquet:
            check(file, parquet.schema_arrow.names)
            size = rows_at_once(path, file, parquet.metadata, PIECE_ROWS)
            for batch in parquet.iter_batches(batch_size=size, use_threads=False):
                row += batch.num_rows
                yield from held.add(batch)
            yield from held.rest()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{file}: cannot be read as Parquet after row {row} ({first_line(error)}); "
            "fetch the file again"
        ) from error


class _Held:
    """Puts batches together to pieces that are worth looking at whole columns for."""

    def __init__(self) -> None:
        self._row = 0
        self._batches: list[Any] = []
        self._rows = self._bytes = 0

    def add(self, batch: Any) -> Iterator[TablePiece]:
        if self._rows + batch.num_rows > PIECE_ROWS:
            yield from self.rest()
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= PIECE_ROWS or self._bytes >= _PIECE_BYTES:
            yield from self.rest()

    def rest(self) -> Iterator[TablePiece]:
        if self._batches:
            yield TablePiece(self._row, pa.Table.from_batches(self._batches))
            self._row += self._rows
        self._batches, self._rows, self._bytes = [], 0, 0


def _arrow(path: Path, file: str, check: Check) -> Iterator[TablePiece]:
    """Arrow's stream, as `datasets` saves it, or its file, as Feather is."""
    row = 0
    try:
        with pa.memory_map(str(path)) as source:
            is_file = source.read(6) == b"ARROW1"
            source.seek(8 if is_file else 0)
            reader = pa.ipc.MessageReader.open_stream(source)
            for message in _messages(reader):
                check_message(message, file)
            source.seek(0)
            read = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
            check(file, read.schema.names)
            for batch in _batches(read, is_file):
                _check_batch(batch, file, row)
                for start in range(0, batch.num_rows, PIECE_ROWS):
                    part = batch.slice(start, PIECE_ROWS)
                    yield TablePiece(row + start, pa.Table.from_batches([part]))
                row += batch.num_rows
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{file}: cannot be read as Arrow after row {row} ({first_line(error)}); "
            "write it again, with Dataset.save_to_disk or write_feather"
        ) from error


def _messages(reader: Any) -> Iterator[Any]:
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return


def _batches(read: Any, is_file: bool) -> Iterator[Any]:
    if is_file:
        yield from (read.get_batch(i) for i in range(read.num_record_batches))
    else:
        yield from read


def _check_batch(batch: Any, file: str, row: int) -> None:
    """Raises DataError where a batch points outside of itself; texts may be odd."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error).upper().replace("-", ""):
            raise DataError(
                f"{file}: damaged after row {row} ({first_line(error)}); write it again"
            ) from error


def _csv(path: Path, file: str, check: Check) -> Iterator[TablePiece]:
    """Rows of texts under the names of the first row; an empty cell is null."""
    csv.field_size_limit(MAX_ROW_BYTES)
    state = _CsvState()
    try:
        with unpacked(path, file, lambda: state.rows) as stream:
            lines = state.lines(stream)
            first = next(lines, "")
            lines_again = _chained(first, lines)
            reader = csv.reader(lines_again, delimiter=_delimiter(first), strict=True)
            header = next(reader, [])
            _check_header(file, header)
            check(file, header)
            yield from _csv_pieces(reader, header, state)
    except csv.Error as error:
        raise DataError(
            f"{file}: not CSV after row {state.rows} ({error}); quote cells that hold commas, "
            "quotes or line breaks, and double the quotes in them"
        ) from error


class _CsvState:
    """How far reading has come, and whether the row in hand has bytes that are not UTF-8."""

    def __init__(self) -> None:
        self.rows = 0
        self.broken = False

    def lines(self, stream: Unpacked) -> Iterator[str]:
        line = stream.readline(MAX_ROW_BYTES).removeprefix(b"\xef\xbb\xbf")
        while line:
            try:
                yield line.decode()
            except UnicodeDecodeError:
                self.broken = True
                yield line.decode("utf-8", "backslashreplace")
            line = stream.readline(MAX_ROW_BYTES)


def _chained(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


def _delimiter(header: str) -> str:
    return max(",\t;", key=lambda sign: (header.count(sign), sign == ","))


def _check_header(file: str, header: Sequence[str]) -> None:
    twice = [name for name in header if header.count(name) > 1]
    if twice or not any(header):
        said = f"names the column {twice[0]!r} twice" if twice else "names no columns"
        raise DataError(f"{file}: the first line {said}; give every column a name of its own")


def _csv_pieces(reader: Any, header: Sequence[str], state: _CsvState) -> Iterator[TablePiece]:
    rows: list[Sequence[str | None]] = []
    errors: dict[int, RowError] = {}
    held = 0

    def piece() -> TablePiece:
        cells = list(zip(*rows, strict=True))
        arrays = [pa.array(column, pa.large_string()) for column in cells]
        return TablePiece(state.rows - len(rows), pa.table(arrays, list(header)), dict(errors))

    for cells in reader:
        if not cells:  # an empty line is no row
            continue
        wrong = _csv_error(cells, header, broken=state.broken)
        state.broken = False
        if wrong is not None:
            errors[state.rows] = wrong
            cells = [""] * len(header)
        rows.append([cell or None for cell in cells])
        held += sum(map(len, cells))
        state.rows += 1
        if len(rows) >= PIECE_ROWS or held >= _PIECE_BYTES:
            yield piece()
            rows.clear()
            errors.clear()
            held = 0
    if rows:
        yield piece()


def _csv_error(cells: Sequence[str], header: Sequence[str], *, broken: bool) -> RowError | None:
    if len(cells) != len(header):
        return RowError("wrong_columns", f"{len(cells)} cells where the header has {len(header)}")
    return RowError("invalid_utf8", "bytes that are not UTF-8") if broken else None
