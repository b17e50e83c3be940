"""What came of each shard, as folders that are there whole or not at all, and joined in the end."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.files import is_sound, read_record, remove, writing_folder
from schemas.parquet import TableWriter, rows_of, write_table
from schemas.tables import Table
from stages.shards.work_file import WorkFile

Rows = Sequence[Mapping[str, Any]]
Counts = Mapping[str, int]

_RECORD = "shard.json"


class Results:
    """The tables that are made shard by shard in a directory."""

    def __init__(self, directory: Path, tables: Sequence[Table]) -> None:
        self.directory = directory
        self.tables = tables
        self.folder = directory / "shards"

    def done(self) -> set[int]:
        """The shards that are finished; one that is not as it was written is done again."""
        found = {p for p in self.folder.glob("[0-9]*") if p.name.isdigit()}
        damaged = {folder for folder in found if not is_sound(folder)}
        for folder in damaged:
            remove(folder)
        return {int(folder.name) for folder in found - damaged}

    def write(
        self,
        shard: int,
        rows: Mapping[str, Rows],
        counts: Counts,
        warnings: Sequence[str] = (),
    ) -> None:
        """Keep what came of one shard: rows by name of table, counts, and what may spoil it."""
        final = self._folder(shard)
        try:
            # Two workers may be at one shard where a cluster thought the first was dead.
            with writing_folder(final, sealed=True, shared=True) as temporary:
                for table in self.tables:
                    write_table(temporary / table.file_name, table, rows[table.name])
                record = {"counts": dict(counts), "warnings": list(warnings)}
                (temporary / _RECORD).write_text(json.dumps(record))
        except OSError as error:  # people want to know which file
            raise _named(error, final) from None

    def forget(self, shard: int) -> None:
        """Have a finished shard done again."""
        remove(self._folder(shard))

    def rows(self, shard: int, table: Table) -> list[dict[str, Any]]:
        """What came of a finished shard, of one table."""
        return rows_of(pq.read_table(self._folder(shard) / table.file_name))

    def counts(self, shard: int) -> dict[str, int]:
        """The counts of a finished shard."""
        found: dict[str, int] = self._record(shard)["counts"]
        return found

    def warnings(self) -> list[str]:
        """What may spoil the result, of all finished shards, each said once."""
        found = [self._record(shard)["warnings"] for shard in sorted(self.done())]
        return list(dict.fromkeys(warning for warnings in found for warning in warnings))

    def _record(self, shard: int) -> dict[str, Any]:
        text = read_record(self._folder(shard) / _RECORD).decode()
        found: dict[str, Any] = json.loads(text)
        return found

    def join(self, work: WorkFile) -> dict[str, int]:
        """Join all shards into the whole tables; returns the sum of their counts.

        One row group is in memory at a time. The shards stay: the stage discards `folder`.
        """
        shards = len(work)
        total: Counter[str] = Counter()
        for number in range(shards):
            total.update(self.counts(number))
        for table in self.tables:
            with TableWriter(self._path(table), table) as writer:
                writer.counts = total
                for part in self._parts(table, shards):
                    writer.append(part)
        return dict(total)

    def _path(self, table: Table) -> Path:
        return self.directory / table.file_name

    def _parts(self, table: Table, shards: int) -> Iterator[pa.Table]:
        for number in range(shards):
            with pq.ParquetFile(self._folder(number) / table.file_name) as file:
                yield file.read()

    def _folder(self, shard: int) -> Path:
        return self.folder / f"{shard:08d}"


def _named(error: OSError, path: Path) -> OSError:
    """The same error with the file's name, which Arrow does not give."""
    if error.errno is None or error.filename is not None:
        return error
    return OSError(error.errno, os.strerror(error.errno), str(path))
