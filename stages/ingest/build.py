"""Reads all data sets into the collector and writes its tables."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from schemas.errors import DataError
from schemas.ids import prompt_id
from schemas.stage import StageContext, Task
from stages.ingest.collector import Collector
from stages.ingest.examples import RowError
from stages.ingest.sources import FileDataset
from stages.ingest.splits import hash_split

if TYPE_CHECKING:
    from stages.ingest import IngestConfig
    from stages.ingest.datasets import Dataset


def ingest(config: "IngestConfig", context: StageContext) -> Mapping[str, int]:
    """Read all data sets and write the four tables; returns the counts for the manifest.

    Raises:
        MissingInputError: a file is not there.
        DataError: a file cannot be read, or a data set has no usable row. What was rejected
            until then is in rejects.parquet.
        BackendError: a hub cannot be reached.
    """
    collector = Collector(config)
    with context.progress.task("reading", None, "rows") as task:
        for dataset in config.datasets:
            _note_unpinned(dataset, context)
            try:
                _read(dataset, config, collector, task)
            except DataError:
                collector.write_rejects(context.output)
                raise
    counts = collector.write(context.output)
    _warn(counts, context)
    return counts


def _read(dataset: "Dataset", config: "IngestConfig", collector: Collector, task: Task) -> None:
    before, reasons, first = collector.rows_in, Counter[str](), ""
    rows = dataset.read(config.seed, lambda p: hash_split(prompt_id(p), config.test_fraction))
    for row in rows:
        error = collector.add(dataset, row)
        task.advance()
        if error is not None:
            reasons[error.reason] += 1
            first = first or _place(row.origin.file, row.origin.row, error)
    read = collector.rows_in - before
    if read == reasons.total():
        listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(3))
        raise DataError(
            f"ingest: {dataset.name or dataset.kind}: none of {read} rows can be used "
            f"({listed or 'nothing was read'}); {first or 'the source is empty'}; "
            "check that kind and path belong together"
        )


def _note_unpinned(dataset: "Dataset", context: StageContext) -> None:
    if isinstance(dataset, FileDataset) and dataset.hub_id and dataset.hub_revision == "main":
        context.progress.note(f"{dataset.hub_id} may change; pin it by hub_revision = a commit")


def _place(file: str, row: int, error: RowError) -> str:
    return f"first: {file} row {row}: {error.detail}"


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
