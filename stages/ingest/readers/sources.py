"""Where raw rows come from: local files, or a data set on a hub."""

import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from schemas.errors import ConfigError, MissingInputError
from schemas.labels import Messages
from schemas.stage import Config
from stages.ingest.examples import Example, RowError
from stages.ingest.readers.file_diagnostics import check_opening
from stages.ingest.readers.raw_rows import RawRow, read_hub
from stages.ingest.splits import named_split

if TYPE_CHECKING:
    import polars as pl

    from stages.ingest.frames.texts import Places, Texts
    from stages.ingest.readers.pieces import Piece

JSON_LINES = tuple(
    ending + packing for ending in (".jsonl", ".json", ".ndjson") for packing in ("", ".gz", ".zst")
)
SUFFIXES = (*JSON_LINES, ".parquet")

SplitOf = Callable[[Messages], str]


@dataclass(frozen=True)
class Source:
    """One file, or what is read like one: the smallest thing that a killed run reads again.

    `file` and `name` are the file and the source in the tables, `content` the table that its rows
    go to, `split` the source's own split where that is kept. `pieces` reads it from the start.
    """

    file: str
    name: str
    pieces: Callable[[], "Iterator[Piece]"]
    content: str = "comparisons"
    split: str | None = None
    derives_demonstrations: bool = False


class FileDataset(Config):
    """A data set whose rows lie in files or on a hub; a kind adds `parse` and `columns`."""

    name: str | None = Field(None, description="the source in all tables; null takes the kind")
    path: str | None = Field(
        None,
        description="a .jsonl, .jsonl.gz, .jsonl.zst or .parquet file, a folder of them, or a glob "
        "pattern; "
        "relative to the current directory",
    )
    hub_id: str | None = Field(
        None, description="a data set on the hub, loaded through datasets, instead of a path"
    )
    hub_revision: str = Field("main", description="branch, tag or commit on the hub; pin a commit")
    hub_subset: str | None = Field(None, description="configuration of the hub data set")
    hub_folder: str | None = Field(None, description="folder in the hub data set (its data_dir)")
    hub_split: str = Field("train", description="split of the hub data set")
    max_rows: int | None = Field(None, ge=1, description="read no more than the first so many rows")
    max_kept: int | None = Field(
        None, ge=1, description="keep so many of the good rows, drawn by seed and content"
    )
    weight: float | None = Field(
        None, gt=0, description="share in the mixture; with one, every data set needs one"
    )
    demonstrations: Literal["chosen", "none"] = Field(
        "chosen", description="chosen: preferred answers of train comparisons teach the SFT stage"
    )
    keep_source_split: bool = Field(
        False, description="take train and test from the names of files or hub split, not by hash"
    )

    # Columns that a Parquet file must have: one of these sets, whole.
    columns: ClassVar[tuple[tuple[str, ...], ...]] = ((),)
    # What counts as a data file in a folder.
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES
    # Keys that a line of texts alone must have for `read_flat`.
    flat_fields: ClassVar[tuple[str, ...]] = ()
    # Columns of a Parquet file that `read_table` looks at, as far as the file has them.
    table_fields: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _one_source(self) -> "FileDataset":
        if (self.path is None) == (self.hub_id is None):
            raise ValueError("give either path or hub_id")
        return self

    def parse(self, row: Mapping[str, Any]) -> Example:
        """One row as an example. Raises RowError."""
        raise NotImplementedError

    def outcomes(self, origin: RawRow) -> Sequence[Example | RowError]:
        """What one raw row is read as: at least one example, or what is wrong with it."""
        if isinstance(origin.value, RowError):
            return [origin.value]
        try:
            return [self.parse(origin.value)]
        except RowError as error:
            return [error]

    def read_flat(self, rows: "Places", texts: "Mapping[str, Texts]") -> "pl.DataFrame":
        """The rows of which it is certain what `parse` would say: their numbers and their values.

        Returns a frame as in `columnar.frames`; the rows that it lacks go to `parse`.
        """
        from stages.ingest.frames.examples import EMPTY

        return EMPTY

    def read_table(self, rows: "pl.DataFrame") -> "pl.DataFrame":
        """The same for columns `row` and those of `table_fields` that a Parquet file has."""
        from stages.ingest.frames.examples import EMPTY

        return EMPTY

    def sources(self, seed: int, split_of: SplitOf) -> list[Source]:
        """What is read, in order; `seed` and `split_of` are for generators.

        Raises:
            MissingInputError: there is no such file.
            ConfigError: a file's name does not end like anything that can be read.
        """
        if self.path is None:
            return [self._source(f"hub:{self._hub_name()}", self._hub_pieces)]
        return [self._local(file, path) for file, path in local_files(self.path, self.suffixes)]

    def column_sets(self) -> tuple[tuple[str, ...], ...]:
        """Sets of columns of which a Parquet file must have one whole."""
        return self.columns

    def is_parquet(self, path: Path) -> bool:
        """Whether that file is read as Parquet, else as JSON Lines."""
        return path.name.endswith(".parquet")

    def files(self) -> list[Path]:
        """The local files, none for a hub. Raises MissingInputError where there is no such file."""
        if self.path is None:
            return []
        return [path for _, path in local_files(self.path, self.suffixes)]

    def check_name(self, file: str) -> None:
        """Raises ConfigError where nothing that can be read ends like that."""
        if not file.endswith(SUFFIXES):
            is_csv = file.endswith((".csv", ".tsv"))
            csv = (
                "; polars.read_csv(FILE).write_parquet(OUT) makes Parquet of CSV" if is_csv else ""
            )
            raise ConfigError(
                f"{file}: not a file that can be read; give one of {', '.join(SUFFIXES)}{csv}"
            )

    def _local(self, file: str, path: Path) -> Source:
        self.check_name(file)

        def pieces() -> "Iterator[Piece]":
            from stages.ingest.readers.pieces import read_file

            check_opening(path, file, parquet=self.is_parquet(path))
            return read_file(self, file, path)

        return self._source(file, pieces)

    def _source(self, file: str, pieces: "Callable[[], Iterator[Piece]]") -> Source:
        kept = self.keep_source_split
        return Source(
            file=file,
            name=self.name or str(getattr(self, "kind", "")),
            pieces=pieces,
            content=getattr(self, "content", "comparisons"),
            split=named_split(file if self.hub_id is None else self.hub_split) if kept else None,
            derives_demonstrations=self.demonstrations == "chosen",
        )

    def _hub_name(self) -> str:
        named = (f"{self.hub_id}@{self.hub_revision}", self.hub_subset, self.hub_folder)
        return "/".join(filter(None, (*named, self.hub_split)))

    def _hub_pieces(self) -> "Iterator[Piece]":
        from stages.ingest.readers.pieces import read_rows

        rows = read_hub(
            self.hub_id or "",
            revision=self.hub_revision,
            subset=self.hub_subset,
            folder=self.hub_folder,
            split=self.hub_split,
        )
        return read_rows(self.outcomes, rows)


def _is_hidden(path: Path) -> bool:
    """Caches, checkpoints and versions that tools keep beside data begin with a dot."""
    return any(part.startswith(".") for part in path.parts)


def local_files(path: str, suffixes: tuple[str, ...] = SUFFIXES) -> list[tuple[str, Path]]:
    """The files a path stands for, each with its name in the tables, sorted by name.

    Of a folder, all below it; hidden ones are passed over, as patterns do.

    Raises:
        MissingInputError: there is no such file, an empty folder, or a pattern without a match.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return [(path, place)]
    if place.is_dir():
        inside = [p.relative_to(place) for p in place.rglob("*") if p.is_file()]
        found = sorted(p for p in inside if p.name.endswith(suffixes) and not _is_hidden(p))
        labelled = [(f"{path.rstrip('/')}/{p.as_posix()}", place / p) for p in found]
    else:
        matches = sorted(glob.glob(str(place), recursive=True))
        labelled = [(m, Path(m)) for m in matches if Path(m).is_file()]
    if not labelled:
        named = f"no file in this folder ends in {', '.join(suffixes)}"
        what = named if place.is_dir() else "no such file"
        raise MissingInputError(
            f"{path}: {what} (looked from {Path.cwd()}); set the path of the data set in [ingest]"
        )
    return labelled
