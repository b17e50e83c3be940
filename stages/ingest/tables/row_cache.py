"""Finished work of one input file each, so that a killed run reads no finished file again.

A unit is a folder under `units/` of the stage's output: its rows and rejects as Arrow streams,
piece by piece, and what else is known of them. It gets its name when it is finished.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas.files import is_sound, remove, writing_folder
from schemas.tables import REJECTS
from stages.ingest.frames.examples import EXAMPLES
from stages.ingest.readers.sources import Source

_WITH_IDS = ("prompt", "comparison", "demonstration", "unpaired")
# An example with its ids, the split it is in, and the key and note by which duplicates are known:
# see `frames.identities`. Its language and its sides' first order have done their work by then.
ROWS = pa.schema(
    [
        *(field for field in EXAMPLES if field.name not in ("language", "chosen_first")),
        *((f"{name}_id", pa.string()) for name in _WITH_IDS),
        ("split", pa.string()),
        ("key_high", pa.uint64()),
        ("key_low", pa.uint64()),
        ("note", pa.int8()),
    ]
)
_FILES = {"rows": ROWS, "rejects": REJECTS.schema}


@dataclass(frozen=True)
class UnitFacts:
    """Of which file and source the rows are, and how many were read and rejected.

    `next_row` is the number of raw rows read, `moved` are prompts found to be in
    several splits, each with the one it belongs to, `unread` columns that nothing has looked at,
    each with the number of rows that have a value there.
    """

    file: str
    source: str
    rows_in: int = 0
    rejects: int = 0
    next_row: int = 0
    moved: tuple[tuple[str, str], ...] = ()
    unread: tuple[tuple[str, int], ...] = ()


class Unit:
    """A unit that is finished, or has been written until it was stopped."""

    def __init__(self, folder: Path, facts: UnitFacts) -> None:
        self.folder = folder
        self.facts = facts

    def pieces(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Rows and rejects, piece by piece, in the order they were read."""
        yield from zip(self.batches("rows"), self.batches("rejects"), strict=True)

    def batches(self, name: str) -> Iterator[pa.Table]:
        """The pieces of one of the files."""
        with (
            pa.OSFile(str(self.folder / f"{name}.arrow")) as file,
            pa.ipc.open_stream(file) as read,
        ):
            for batch in read:
                yield pa.Table.from_batches([batch])


class UnitWriter:
    """Writes a unit piece by piece; one that is not finished is written anew the next time."""

    def __init__(self, folder: Path, facts: UnitFacts) -> None:
        self._final = folder
        self._facts = facts
        self._place, self._files = ExitStack(), ExitStack()
        self._folder = self._place.enter_context(writing_folder(folder, sealed=True))
        self._writers = {name: self._stream(name) for name in _FILES}

    def append(self, rows: pa.Table, rejects: pa.Table, next_row: int) -> None:
        """Write one piece."""
        self._writers["rows"].write_batch(_one_batch(rows))
        self._writers["rejects"].write_batch(_one_batch(rejects))
        self._facts = replace(
            self._facts,
            rows_in=self._facts.rows_in + rows.num_rows + rejects.num_rows,
            rejects=self._facts.rejects + rejects.num_rows,
            next_row=next_row,
        )

    def finish(
        self, moved: Sequence[tuple[str, str]], unread: Sequence[tuple[str, int]] = ()
    ) -> Unit:
        """Give the unit its name: from now on it is there."""
        self._files.close()
        facts = replace(self._facts, moved=tuple(moved), unread=tuple(unread))
        (self._folder / "facts.json").write_text(json.dumps(asdict(facts)))
        self._place.close()
        return Unit(self._final, facts)

    def stop(self) -> Unit:
        """What was written until an error."""
        self._files.close()
        stopped = self._final.with_name(f"{self._final.name}.stopped")
        remove(stopped)
        os.rename(self._folder, stopped)
        return Unit(stopped, self._facts)

    def __enter__(self) -> "UnitWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self._files.close()

    def _stream(self, name: str) -> Any:
        file = self._files.enter_context(pa.OSFile(str(self._folder / f"{name}.arrow"), "wb"))
        return self._files.enter_context(pa.ipc.new_stream(file, _FILES[name]))


def _one_batch(data: pa.Table) -> pa.RecordBatch:
    batches = data.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=data.schema)


def _schema_of(path: Path) -> pa.Schema:
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as read:
        return read.schema


class UnitStore:
    """The units of one run of the stage."""

    def __init__(self, output: Path) -> None:
        self.folder = output / "units"
        self.folder.mkdir(parents=True, exist_ok=True)

    def finished(self, key: str) -> Unit | None:
        """The unit of that key, if an earlier run of this version has finished it."""
        folder = self.folder / key
        if not is_sound(folder) or _schema_of(folder / "rows.arrow") != ROWS:
            return None
        facts = json.loads((folder / "facts.json").read_text())
        moved = tuple((id_, split) for id_, split in facts["moved"])
        unread = tuple((name, rows) for name, rows in facts.get("unread", ()))
        return Unit(folder, UnitFacts(**{**facts, "moved": moved, "unread": unread}))

    def writer(self, key: str, source: Source) -> UnitWriter:
        """Write that unit."""
        return UnitWriter(self.folder / key, UnitFacts(source.file, source.name))

    def scratch(self, name: str) -> Path:
        """A folder beside the units, for what need not outlive a kill."""
        return self.folder / f"{name}.scratch"
