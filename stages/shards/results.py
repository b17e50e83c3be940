"""What came of each shard, as folders that are there whole or not at all, and joined in the end."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.parquet import TableWriter, table_counts, write_table
from schemas.tables import Table
from stages.shards.work_file import WorkFile

Rows = Sequence[Mapping[str, Any]]
Counts = Mapping[str, int]

_RECORD = "shard.json"


class Results:
    """The tables that a stage makes shard by shard in its directory."""

    def __init__(self, directory: Path, tables: Sequence[Table]) -> None:
        self.directory = directory
        self.tables = tables
        self._folder = directory / "shards"
        self._joined = directory / "shards.joined"
        if self._joined.exists():  # a run was killed while it tidied up
            shutil.rmtree(self._joined)

    @property
    def are_joined(self) -> bool:
        """Whether the whole tables are there already."""
        return not self._folder.exists() and all(self._path(t).exists() for t in self.tables)

    def done(self) -> set[int]:
        """The shards that are finished."""
        return {int(p.name) for p in self._folder.glob("[0-9]*") if p.name.isdigit()}

    def write(
        self,
        shard: int,
        rows: Mapping[str, Rows],
        counts: Counts,
        warnings: Sequence[str] = (),
    ) -> None:
        """Keep what came of one shard: rows by name of table, counts, and what may spoil it."""
        final = self._folder / f"{shard:08d}"
        # Two workers may be at one shard where a cluster thought the first was dead.
        temporary = final.with_name(f"{final.name}.{os.uname().nodename}.{os.getpid()}.writing")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            for table in self.tables:
                write_table(temporary / table.file_name, table, rows[table.name])
            record = {"counts": dict(counts), "warnings": list(warnings)}
            (temporary / _RECORD).write_text(json.dumps(record))
        except OSError as error:  # a full disk wants its space back, and people want to know which
            shutil.rmtree(temporary, ignore_errors=True)
            raise _named(error, final) from None
        try:
            os.rename(temporary, final)
        except OSError:  # the other one was faster, with the same rows
            shutil.rmtree(temporary)

    def counts(self, shard: int) -> dict[str, int]:
        """The counts of a finished shard."""
        found: dict[str, int] = self._record(shard)["counts"]
        return found

    def warnings(self) -> list[str]:
        """What may spoil the result, of all finished shards, each said once."""
        found = [self._record(shard)["warnings"] for shard in sorted(self.done())]
        return list(dict.fromkeys(warning for warnings in found for warning in warnings))

    def _record(self, shard: int) -> dict[str, Any]:
        text = (self._folder / f"{shard:08d}" / _RECORD).read_text()
        found: dict[str, Any] = json.loads(text)
        return found

    def join(self, work: WorkFile) -> dict[str, int]:
        """Join all shards into the whole tables; returns the sum of their counts.

        One row group is in memory at a time. What was joined before a kill stays so.
        """
        if not self.are_joined:
            self._folder.mkdir(parents=True, exist_ok=True)  # there may have been nothing to do
            shards = len(work)
            total: Counter[str] = Counter()
            for number in range(shards):
                total.update(self.counts(number))
            for table in self.tables:
                with TableWriter(self._path(table), table) as writer:
                    writer.counts = total
                    for part in self._parts(table, shards):
                        writer.append(part)
            os.rename(self._folder, self._joined)
            shutil.rmtree(self._joined)
        return table_counts(self._path(self.tables[0]))

    def _path(self, table: Table) -> Path:
        return self.directory / table.file_name

    def _parts(self, table: Table, shards: int) -> Iterator[pa.Table]:
        for number in range(shards):
            yield pq.read_table(self._folder / f"{number:08d}" / table.file_name)


def _named(error: OSError, path: Path) -> OSError:
    """The same error with the file's name, which Arrow does not give."""
    if error.errno is None or error.filename is not None:
        return error
    return OSError(error.errno, os.strerror(error.errno), str(path))
