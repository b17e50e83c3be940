"""Reads all sources and makes the tables of them: one source in one go, several by units."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl
import pyarrow as pa

from evals.files.opening.places import is_remote
from schemas.errors import DataError
from schemas.ids import prompt_id
from schemas.labels import Messages
from schemas.stage import StageContext, Task
from stages.ingest.cleaning_plan import make_plan
from stages.ingest.config import IngestConfig
from stages.ingest.datasets.config import FileDataset, KTODataset
from stages.ingest.datasets.detect_format import what_next
from stages.ingest.datasets.open import open_dataset
from stages.ingest.malloc import keep_freed_memory
from stages.ingest.readers.pieces import Piece
from stages.ingest.readers.sources import Source
from stages.ingest.splits import ORDER, has_own_dev, hash_split
from stages.ingest.tables.assign_ids import Admission, arrow_rows, count_reasons
from stages.ingest.tables.row_cache import Unit, UnitStore
from stages.ingest.tables.table_writers import Tables
from stages.ingest.tables.write_tables import publish, publish_rejects

Unread = Sequence[tuple[str, int]]
"""Columns that nothing has looked at, each with the number of rows that have a value there."""


def ingest(config: IngestConfig, context: StageContext) -> Mapping[str, int]:
    """Read all data sets and write the four tables; returns the counts for the manifest.

    Raises:
        MissingInputError: a file is not there.
        DataError: a file cannot be read, or a data set has no usable row. What was rejected
            until then is in rejects.parquet.
        BackendError: a hub cannot be reached.
    """
    keep_freed_memory()
    _note_unpinned(config, context)
    reader = _Reader(config, context)
    counts = _in_one_go(reader, context) if reader.is_final() else _by_units(reader, context)
    context.discard(reader.store.folder)
    _warn(counts, context)
    return counts


def _in_one_go(reader: "_Reader", context: StageContext) -> dict[str, int]:
    """The tables of one source, written while it is read."""
    [source], [dataset] = reader.sources, reader.config.datasets
    lineage = {"source": pl.lit(source.name), "file": pl.lit(source.file)}
    rejected, rows_in, columns = _Rejected(), 0, _Columns(source)
    with (
        context.progress.task("reading", None, "rows") as task,
        Tables(context.output, unpaired=_keeps_unpaired(reader.config)) as tables,
    ):
        for piece in _pieces(source, getattr(dataset, "max_rows", None), columns):
            rows, rejects = reader.admission.admit(0, piece)
            tables.append(rows.with_columns(**lineage), rejects)
            rejected.add(rejects)
            rows_in += len(rows) + rejects.num_rows
            task.advance(len(rows) + rejects.num_rows)
        if rows_in == rejected.reasons.total():
            raise rejected.error(dataset, columns.unread())
        _note_unread(source.name, [columns.unread()], context)
        return tables.finish(rows_in)


def _by_units(reader: "_Reader", context: StageContext) -> dict[str, int]:
    """The tables of several sources, or of what is only decided when all has been read."""
    with context.progress.task("reading", None, "rows") as task:
        try:
            reader.read_all(task)
        except DataError:
            publish_rejects(reader.units, context.output)
            raise
    reader.note_unread(context)
    moved = reader.admission.moved
    reader.admission.forget()
    folder = reader.store.scratch("cleaning")
    plan = make_plan(reader.config, reader.units, reader.numbers, moved, folder)
    unpaired = _keeps_unpaired(reader.config)
    return publish(
        *(reader.units, reader.used, moved, context.output, plan.late, plan.joins),
        unpaired=unpaired,
    )


def _keeps_unpaired(config: IngestConfig) -> bool:
    return any(isinstance(d, KTODataset) and d.left_over == "keep" for d in config.datasets)


def _pieces(source: Source, limit: int | None, columns: "_Columns") -> Iterator[Piece]:
    """The first `limit` rows of a source; counts what columns they have."""
    next_row = 0
    for read in source.pieces():
        piece = read if limit is None else read.head(limit)
        yield piece
        columns.add(piece)
        next_row = piece.next_row
        if limit is not None and next_row >= limit:
            break
    yield from source.closing(next_row)


class _Columns:
    """In how many rows of a source each of its columns has a value."""

    MOST = 200
    """Names that are kept: rows of JSON may have any number."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._counts = Counter[str]()

    def add(self, piece: Piece) -> None:
        """Count a piece that has been read."""
        for name, count in piece.columns().items():
            if name in self._counts or len(self._counts) < self.MOST:
                self._counts[name] += count

    def unread(self) -> list[tuple[str, int]]:
        """The columns that nothing has looked at, and in how many rows they have a value."""
        looked_at = self._source.looked_at()
        return [(name, n) for name, n in self._counts.items() if n and name not in looked_at]


def _note_unread(
    name: str, units: Iterable[Sequence[tuple[str, int]]], context: StageContext
) -> None:
    """Name what the rows of a data set have beside what is read."""
    unread = Counter[str]()
    for unit in units:
        unread.update(dict(unit))
    if unread:
        said = ", ".join(f"{column} ({count} rows)" for column, count in unread.most_common(8))
        more = f", and {len(unread) - 8} more" if len(unread) > 8 else ""
        context.progress.note(f"{name}: columns that are not read: {said}{more}")


class _Reader:
    """Turns sources into units; those that an earlier run has finished are taken as they are."""

    def __init__(self, config: IngestConfig, context: StageContext) -> None:
        def split_of(prompt: Messages) -> str:
            return hash_split(prompt_id(prompt), config.test_fraction, config.dev_fraction)

        self.config = config
        self._datasets = [
            (d, open_dataset(d).sources(config.seed, split_of)) for d in config.datasets
        ]
        self._datasets = _with_settled_splits(self._datasets)
        self.sources = [source for _, listed in self._datasets for source in listed]
        self.admission = Admission(config, self.sources)
        self.store = UnitStore(context.output)
        self.units: list[Unit] = []
        self.used: list[Source] = []
        """Of each unit the source."""
        self.numbers: list[int] = []
        """Of each unit the number of its data set."""

    def is_final(self) -> bool:
        """Whether all that becomes of a row is known as soon as it is read.

        So it is with one source of one kind of rows and no splits of its own, where nobody looks
        for near-duplicates, overlaps with evaluation sets, or a mixture. A killed run would read a
        single source again anyway.
        """
        (dataset, *others), config = self.config.datasets, self.config
        return (
            not others
            and len(self.sources) == 1
            and isinstance(dataset, FileDataset)
            and (dataset.max_kept, dataset.weight, self.sources[0].split) == (None, None, None)
            and config.near_duplicates.policy == "off"
            and not config.decontaminate
        )

    def read_all(self, task: Task) -> None:
        """Read every source of every data set. Raises DataError where one is of no use."""
        numbers = iter(range(len(self.sources)))
        for index, (dataset, sources) in enumerate(self._datasets):
            limit, units = getattr(dataset, "max_rows", None), []
            for source, number in zip(sources, numbers, strict=False):
                if limit != 0:
                    units.append(self._unit(number, source, limit, task))
                    self.numbers.append(index)
                    limit = None if limit is None else limit - units[-1].facts.next_row
            if all(unit.facts.rows_in == unit.facts.rejects for unit in units):
                rejects = (batch for unit in units for batch in unit.batches("rejects"))
                unread = [column for unit in units for column in unit.facts.unread]
                raise _Rejected(rejects).error(dataset, unread)

    def _unit(self, number: int, source: Source, limit: int | None, task: Task) -> Unit:
        unit = self.store.finished(f"{number:05d}")
        if unit is None:
            unit = self._read(number, source, limit, task)
        else:
            self.admission.restore(number, unit)
            task.advance(unit.facts.rows_in)
        self.units.append(unit)
        self.used.append(source)
        return unit

    def _read(self, number: int, source: Source, limit: int | None, task: Task) -> Unit:
        with self.store.writer(f"{number:05d}", source) as writer:
            columns = _Columns(source)
            try:
                for piece in _pieces(source, limit, columns):
                    rows, rejects = self.admission.admit(number, piece)
                    writer.append(arrow_rows(rows), rejects, piece.next_row)
                    task.advance(len(rows) + rejects.num_rows)
            except DataError:
                self.units.append(writer.stop())
                raise
            return writer.finish(self.admission.take_moved(), columns.unread())

    def note_unread(self, context: StageContext) -> None:
        """Name the columns of each data set that nothing has looked at."""
        units: dict[str, list[Unread]] = {}
        for unit in self.units:
            units.setdefault(unit.facts.source, []).append(unit.facts.unread)
        for name, unread in units.items():
            _note_unread(name, unread, context)


def _with_settled_splits(
    datasets: Sequence[tuple[Any, Sequence[Source]]],
) -> list[tuple[Any, list[Source]]]:
    """Say which of the splits that sources keep is dev: see `splits.has_own_dev`."""
    stated: dict[str, set[str | None]] = {}
    for _, sources in datasets:
        for source in sources:
            stated.setdefault(source.name, set()).add(source.split)

    def settled(source: Source) -> Source:
        own = has_own_dev(stated[source.name])
        split = "test" if source.split == "dev" and not own else source.split
        return replace(source, split=split, carves_dev=not own)

    return [(dataset, [settled(source) for source in sources]) for dataset, sources in datasets]


class _Rejected:
    """Rejects by reason, and the first of them: enough to say why nothing could be used."""

    def __init__(self, batches: Iterable[pa.Table] = ()) -> None:
        self.reasons = Counter[str]()
        self._first: dict[str, Any] | None = None
        for batch in batches:
            self.add(batch)

    def add(self, rejects: pa.Table) -> None:
        """Take a piece's rejects."""
        self.reasons.update(count_reasons(rejects))
        if self._first is None and rejects.num_rows:
            [self._first] = rejects.slice(0, 1).to_pylist()

    def error(self, dataset: Any, unread: Unread) -> DataError:
        """Says that none of the rows of a data set can be used, and what to do about it."""
        listed = ", ".join(f"{reason} {count}" for reason, count in self.reasons.most_common(3))
        said = "first: {file} row {row}: {detail}"
        first = said.format_map(self._first) if self._first else "the source is empty"
        raw = self._first["raw"] if self._first else ""
        next_step = what_next(raw, dataset, self.reasons, [name for name, _ in unread])
        return DataError(
            f"ingest: {dataset.name or dataset.kind}: none of {self.reasons.total()} rows can be "
            f"used ({listed or 'nothing was read'}); {first}; {next_step}"
        )


def _note_unpinned(config: IngestConfig, context: StageContext) -> None:
    for dataset in config.datasets:
        if isinstance(dataset, FileDataset) and dataset.hub_id and dataset.hub_revision == "main":
            context.progress.note(f"{dataset.hub_id} may change; pin it by hub_revision = a commit")
        if isinstance(dataset, FileDataset) and dataset.path and is_remote(dataset.path):
            context.progress.note(f"{dataset.path} may change there, which no later run notices")


def _left_out(counts: Mapping[str, int]) -> str:
    reasons = {name: n for name, n in counts.items() if name.startswith("rejects/")}
    listed = sorted(reasons, key=lambda name: (-reasons[name], name))
    said = [f"{name.removeprefix('rejects/')} {reasons[name]}" for name in listed[:3]]
    more = [f"{len(listed) - 3} more"] if len(listed) > 3 else []
    return (
        f"{counts['rejects']} of {counts['rows_in']} rows are left out ({', '.join(said + more)}): "
        "see rejects.parquet"
    )


def _warn(counts: Mapping[str, int], context: StageContext) -> None:
    if counts["rejects"]:
        context.progress.note(_left_out(counts))
    for split in ORDER:
        if counts["comparisons"] and not counts[f"comparisons/{split}"]:
            setting = "dev_fraction" if split == "dev" else "test_fraction"
            context.progress.warn(
                f"no comparison is in the {split} split; set {setting} in [ingest]"
            )
    for split in ("test", "dev"):
        moved = counts[f"prompts_moved_to_{split}"]
        if moved:
            context.progress.warn(
                f"{moved} prompts were in {split} and in another split of their sources; "
                f"all their rows are in {split} now"
            )
        if near := counts[f"near_duplicates_moved_to_{split}"]:
            context.progress.note(
                f"{near} prompts are held out in {split} because they nearly repeat prompts there"
            )
