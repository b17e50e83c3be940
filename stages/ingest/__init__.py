"""Ingest: raw preference data to declared tables; what cannot be used is kept with its reason."""

from collections.abc import Sequence
from pathlib import Path

from schemas.stage import Stage, called_later
from stages.ingest.config import IngestConfig


def _files(config: IngestConfig) -> Sequence[Path]:
    reading = (*config.datasets, *config.filters, *config.decontaminate)
    return [path for one in reading for path in one.files()]


STAGE = Stage(
    name="ingest",
    summary="read raw preference data into prompts, demonstrations and comparisons",
    config=IngestConfig,
    inputs=(),
    run=called_later("stages.ingest.run", "ingest"),
    version=5,
    files=_files,
)
