"""Where raw rows come from: local files, or a data set on a hub."""

import glob
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from schemas.errors import ConfigError, MissingInputError
from schemas.labels import Messages
from schemas.stage import Config
from stages.ingest.examples import Example, RowError
from stages.ingest.raw_rows import RawRow, read_hub, read_jsonl, read_parquet
from stages.ingest.splits import named_split

JSON_LINES = (".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz", ".ndjson.gz")
SUFFIXES = (*JSON_LINES, ".parquet")

SplitOf = Callable[[Messages], str]


@dataclass(frozen=True)
class ReadRow:
    """A raw row and what it was read as; `source_split` only where the source's own is kept."""

    origin: RawRow
    outcome: Example | RowError
    source_split: str | None = None


class FileDataset(Config):
    """A data set whose rows lie in files or on a hub; a kind adds `parse` and `columns`."""

    name: str | None = Field(None, description="the source in all tables; null takes the kind")
    path: str | None = Field(
        None,
        description="a .jsonl, .jsonl.gz or .parquet file, a folder of them, or a glob pattern; "
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

    @model_validator(mode="after")
    def _one_source(self) -> "FileDataset":
        if (self.path is None) == (self.hub_id is None):
            raise ValueError("give either path or hub_id")
        return self

    def parse(self, row: Mapping[str, Any]) -> Example:
        """One row as an example. Raises RowError."""
        raise NotImplementedError

    def read(self, seed: int, split_of: SplitOf) -> Iterator[ReadRow]:
        """All rows in the order of the files; `seed` and `split_of` are for generators."""
        for origin in islice(self._raw_rows(), self.max_rows):
            split = self._source_split(origin.file) if self.keep_source_split else None
            yield ReadRow(origin, self._outcome(origin), split)

    def files(self) -> list[Path]:
        """The local files, none for a hub. Raises MissingInputError where there is no such file."""
        if self.path is None:
            return []
        return [path for _, path in local_files(self.path, self.suffixes)]

    def _outcome(self, origin: RawRow) -> Example | RowError:
        if isinstance(origin.value, RowError):
            return origin.value
        try:
            return self.parse(origin.value)
        except RowError as error:
            return error

    def _source_split(self, file: str) -> str:
        return named_split(file if self.hub_id is None else self.hub_split)

    def _raw_rows(self) -> Iterator[RawRow]:
        if self.path is not None:
            for file, path in local_files(self.path, self.suffixes):
                yield from self._file_rows(file, path)
        else:
            yield from read_hub(
                self.hub_id or "",
                revision=self.hub_revision,
                subset=self.hub_subset,
                folder=self.hub_folder,
                split=self.hub_split,
            )

    def _file_rows(self, file: str, path: Path) -> Iterator[RawRow]:
        if path.name.endswith(".parquet"):
            return read_parquet(path, file, self.columns)
        if path.name.endswith(JSON_LINES):
            return read_jsonl(path, file)
        raise ConfigError(f"{file}: not a file that can be read; give one of {', '.join(SUFFIXES)}")


def local_files(path: str, suffixes: tuple[str, ...] = SUFFIXES) -> list[tuple[str, Path]]:
    """The files a path stands for, each with its name in the tables, sorted by name.

    Raises:
        MissingInputError: there is no such file, an empty folder, or a pattern without a match.
    """
    place = Path(path).expanduser()
    if place.is_file():
        return [(path, place)]
    if place.is_dir():
        found = sorted(p for p in place.rglob("*") if p.name.endswith(suffixes) and p.is_file())
        labelled = [(f"{path.rstrip('/')}/{p.relative_to(place).as_posix()}", p) for p in found]
    else:
        matches = sorted(glob.glob(str(place), recursive=True))
        labelled = [(m, Path(m)) for m in matches if Path(m).is_file()]
    if not labelled:
        what = "no file to read in this folder" if place.is_dir() else "no such file"
        raise MissingInputError(
            f"{path}: {what} (looked from {Path.cwd()}); set the path of the data set in [ingest]"
        )
    return labelled
