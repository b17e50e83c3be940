"""Where raw rows come from: local files, or a data set on a hub."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import polars as pl

from evals.files.opening.formats import Format
from evals.files.opening.remote import data_files
from schemas.errors import DataError
from schemas.labels import Messages
from stages.ingest.datasets.config import FileDataset
from stages.ingest.examples import Example, RowError
from stages.ingest.frames.examples import EMPTY
from stages.ingest.frames.texts import Places, Texts
from stages.ingest.readers.columns import check_columns, renamed
from stages.ingest.readers.file_diagnostics import check_opening
from stages.ingest.readers.pieces import Piece, pieces_of_tables, read_file
from stages.ingest.readers.raw_rows import RawRow
from stages.ingest.readers.tables import read_hub
from stages.ingest.splits import named_split

SplitOf = Callable[[Messages], str]
C = TypeVar("C", bound=FileDataset)


@dataclass(frozen=True)
class Source:
    """One file, or what is read like one: the smallest thing that a killed run reads again.

    `file` and `name` are the file and the source in the tables, `content` the table that its rows
    go to, `split` the source's own split where that is kept, `carves_dev` says that dev is taken
    out of it. `pieces` reads it from the start, `closing` gives what is only known at its end, by
    the number of the next row. `looked_at` are the columns that reading has asked for so far.
    """

    file: str
    name: str
    pieces: Callable[[], Iterator[Piece]]
    content: str = "comparisons"
    split: str | None = None
    carves_dev: bool = True
    derives_demonstrations: bool = False
    closing: Callable[[int], Iterator[Piece]] = lambda next_row: iter(())
    looked_at: Callable[[], Collection[str]] = frozenset


class FileReader(ABC, Generic[C]):
    """Reads a data set of files or of a hub; a kind adds `parse`."""

    # Keys that a line of texts alone must have for `read_flat`.
    flat_fields: ClassVar[tuple[str, ...]] = ()
    # Columns of a Parquet file that `read_table` looks at, as far as the file has them.
    table_fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: C) -> None:
        self.config = config
        self.names: Mapping[str, str] = config.columns
        self._looked: set[str] = set()

    @property
    def looked_at(self) -> set[str]:
        """The columns of the files that reading rows has asked for so far."""
        return {self.names.get(name, name) for name in self._looked}

    @abstractmethod
    def parse(self, row: Mapping[str, Any]) -> Example:
        """One row as an example. Raises RowError."""

    def outcomes(self, origin: RawRow) -> Sequence[Example | RowError]:
        """What one raw row is read as: at least one example, or what is wrong with it."""
        if isinstance(origin.value, RowError):
            return [origin.value]
        try:
            return [self.parse(self.watched(origin.value))]
        except RowError as error:
            return [error]

    def watched(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """A row under our names, which notes what is looked at."""
        return Watched(renamed(self.names, row), self._looked)

    def read_flat(self, rows: Places, texts: Mapping[str, Texts]) -> pl.DataFrame:
        """The rows of which it is certain what `parse` would say: their numbers and their values.

        Returns a frame as in `frames.examples`; the rows that it lacks go to `parse`.
        """
        return EMPTY

    def read_table(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The same for columns `row` and those of `table_fields` that a Parquet file has."""
        return EMPTY

    def check_columns(self, file: str, found: Sequence[str]) -> None:
        """Refuse a table with columns that cannot be read. Raises DataError."""
        theirs = set(self.names.values())
        if missing := sorted(theirs - set(found)):
            raise DataError(
                f"{file}: has no column {missing[0]}, which columns names; it has "
                f"{', '.join(found[:12])}"
            )
        ours = list(renamed(self.names, dict.fromkeys(found)))
        check_columns(file, ours, self.config.column_sets())

    def format_of(self, path: Path) -> Format:
        """What that file is read as."""
        return self.config.format_of(path)

    def sources(self, seed: int, split_of: SplitOf) -> list[Source]:
        """What is read, in order; `seed` and `split_of` are for generators.

        Raises:
            MissingInputError: there is no such file.
            BackendError: a remote store cannot be reached.
            ConfigError: a file's name does not end like anything that can be read.
        """
        config = self.config
        if config.path is None:
            return [self._source(f"hub:{self._hub_name()}", self._hub_pieces)]
        return [self._local(file, path) for file, path in data_files(config.path, config.suffixes)]

    def _local(self, file: str, path: Path) -> Source:
        self.config.check_name(file)

        def pieces() -> Iterator[Piece]:
            check_opening(path, file, parquet=self.format_of(path) == "parquet")
            return read_file(self, file, path)

        return self._source(file, pieces)

    def _source(self, file: str, pieces: Callable[[], Iterator[Piece]]) -> Source:
        config, kept = self.config, self.config.keep_source_split
        named = file if config.hub_id is None else config.hub_split
        return Source(
            file=file,
            name=config.name or config.kind,
            pieces=pieces,
            content=config.rows_are,
            split=named_split(named) if kept else None,
            derives_demonstrations=config.demonstrations == "chosen",
            looked_at=lambda: self.looked_at,
        )

    def _hub_name(self) -> str:
        config = self.config
        named = (f"{config.hub_id}@{config.hub_revision}", config.hub_subset, config.hub_folder)
        return "/".join(filter(None, (*named, config.hub_split)))

    def _hub_pieces(self) -> Iterator[Piece]:
        config = self.config
        tables = read_hub(
            config.hub_id or "",
            revision=config.hub_revision,
            subset=config.hub_subset,
            folder=config.hub_folder,
            split=config.hub_split,
            check=self.check_columns,
        )
        return pieces_of_tables(self, f"hub:{self._hub_name()}", tables)


class Watched(Mapping[str, Any]):
    """A row that notes which of its columns are asked for."""

    def __init__(self, row: Mapping[str, Any], looked: set[str]) -> None:
        self._row, self._looked = row, looked

    def __getitem__(self, name: str) -> Any:
        self._looked.add(name)
        return self._row[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or the default."""
        self._looked.add(name)
        return self._row.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._row

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)
