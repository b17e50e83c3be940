"""Reads all sources, one unit each, and makes the tables of the units."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from schemas.errors import DataError
from schemas.ids import prompt_id
from schemas.labels import Messages
from schemas.stage import StageContext, Task
from stages.ingest.admission import Admission, count_reasons
from stages.ingest.cleaning.plan import make_plan
from stages.ingest.publishing import publish, publish_rejects
from stages.ingest.sources import FileDataset, Source
from stages.ingest.splits import hash_split
from stages.ingest.units import Unit, UnitStore

if TYPE_CHECKING:
    from stages.ingest import IngestConfig


def ingest(config: "IngestConfig", context: StageContext) -> Mapping[str, int]:
    """Read all data sets and write the four tables; returns the counts for the manifest.

    Raises:
        MissingInputError: a file is not there.
        DataError: a file cannot be read, or a data set has no usable row. What was rejected
            until then is in rejects.parquet.
        BackendError: a hub cannot be reached.
    """
    _note_unpinned(config, context)
    reader = _Reader(config, context)
    with context.progress.task("reading", None, "rows") as task:
        try:
            reader.read_all(task)
        except DataError:
            publish_rejects(reader.units, context.output)
            raise
    moved = reader.admission.moved
    reader.admission.forget()
    plan = make_plan(config, reader.units, reader.numbers, moved)
    counts = publish(reader.units, reader.sources, moved, context.output, plan.late, plan.held_out)
    reader.store.remove()
    _warn(counts, context)
    return counts


class _Reader:
    """Turns sources into units; those that an earlier run has finished are taken as they are."""

    def __init__(self, config: "IngestConfig", context: StageContext) -> None:
        def split_of(prompt: Messages) -> str:
            return hash_split(prompt_id(prompt), config.test_fraction)

        self._datasets = [(d, d.sources(config.seed, split_of)) for d in config.datasets]
        self._sources = [source for _, listed in self._datasets for source in listed]
        self.admission = Admission(config, self._sources)
        self.store = UnitStore(context.output)
        self.units: list[Unit] = []
        self.sources: list[Source] = []
        """Of each unit the source."""
        self.numbers: list[int] = []
        """Of each unit the number of its data set."""

    def read_all(self, task: Task) -> None:
        """Read every source of every data set. Raises DataError where one is of no use."""
        numbers = iter(range(len(self._sources)))
        for index, (dataset, sources) in enumerate(self._datasets):
            limit, units = getattr(dataset, "max_rows", None), []
            for source, number in zip(sources, numbers, strict=False):
                if limit != 0:
                    units.append(self._unit(number, source, limit, task))
                    self.numbers.append(index)
                    limit = None if limit is None else limit - units[-1].facts.next_row
            _refuse_useless(dataset.name or dataset.kind, units)

    def _unit(self, number: int, source: Source, limit: int | None, task: Task) -> Unit:
        unit = self.store.finished(f"{number:05d}")
        if unit is None:
            unit = self._read(number, source, limit, task)
        else:
            self.admission.restore(number, unit)
            task.advance(unit.facts.rows_in)
        self.units.append(unit)
        self.sources.append(source)
        return unit

    def _read(self, number: int, source: Source, limit: int | None, task: Task) -> Unit:
        with self.store.writer(f"{number:05d}", source) as writer:
            try:
                for piece in source.pieces():
                    piece = piece if limit is None else piece.head(limit)
                    rows, rejects = self.admission.admit(number, piece)
                    writer.append(rows, rejects, piece.next_row)
                    task.advance(rows.num_rows + rejects.num_rows)
                    if piece.next_row == limit:
                        break
            except DataError:
                self.units.append(writer.stop())
                raise
            return writer.finish(self.admission.take_moved())


def _refuse_useless(name: str, units: Sequence[Unit]) -> None:
    """Raises DataError where none of the rows of a data set can be used."""
    if any(unit.facts.rows_in > unit.facts.rejects for unit in units):
        return
    reasons = Counter[str]()
    for rejects in (batch for unit in units for batch in unit.batches("rejects")):
        reasons.update(count_reasons(rejects))
    listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(3))
    raise DataError(
        f"ingest: {name}: none of {reasons.total()} rows can be used "
        f"({listed or 'nothing was read'}); {_first_reject(units)}; "
        "check that kind and path belong together"
    )


def _first_reject(units: Sequence[Unit]) -> str:
    batches = (batch for unit in units for batch in unit.batches("rejects"))
    first = next((batch.slice(0, 1).to_pylist()[0] for batch in batches if batch.num_rows), None)
    if first is None:
        return "the source is empty"
    return "first: {file} row {row}: {detail}".format_map(first)


def _note_unpinned(config: "IngestConfig", context: StageContext) -> None:
    for dataset in config.datasets:
        if isinstance(dataset, FileDataset) and dataset.hub_id and dataset.hub_revision == "main":
            context.progress.note(f"{dataset.hub_id} may change; pin it by hub_revision = a commit")


def _warn(counts: Mapping[str, int], context: StageContext) -> None:
    for split in ("train", "test"):
        if counts["comparisons"] and not counts[f"comparisons/{split}"]:
            context.progress.warn(
                f"no comparison is in the {split} split; set test_fraction in [ingest]"
            )
    if counts["prompts_moved_to_test"]:
        context.progress.warn(
            f"{counts['prompts_moved_to_test']} prompts were in train and test of their sources; "
            "all their rows are in test now"
        )
    if counts["near_duplicates_moved_to_test"]:
        context.progress.note(
            f"{counts['near_duplicates_moved_to_test']} prompts are held out because they nearly "
            "repeat held-out prompts"
        )
