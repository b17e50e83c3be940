"""What the upstream stages left behind, read once and with nothing taken for granted."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import DataError
from schemas.files import first_line
from schemas.manifest import Manifest, read_manifest
from schemas.parquet import read_rows
from schemas.results.base import R, read_result
from schemas.stage import StageContext
from schemas.tables import Table

Json = dict[str, Any]
Rows = list[dict[str, Any]]

STAGE_ORDER = ("ingest", "sft", "judge", "sample", "label", "train", "evaluate")


class Sources:
    """The finished stages of a run.

    A stage that the recipe leaves out has no manifest; a file that its stage did not write (a rule
    needs no training, so there are no metrics) reads as nothing. A file that is there and broken
    is an error.
    """

    def __init__(self, context: StageContext) -> None:
        self._inputs = context.inputs
        read = {name: read_manifest(path) for name, path in self._inputs.items()}
        self.manifests: Mapping[str, Manifest] = {
            name: found
            for name in STAGE_ORDER
            if (found := read.get(name)) is not None and not found.skipped
        }

    def path(self, stage: str, name: str) -> Path | None:
        """Where a stage's file is, or None where there is none."""
        if stage not in self.manifests:
            return None
        path = self._inputs[stage] / name
        return path if path.exists() else None

    def result(self, stage: str, name: str, kind: type[R]) -> R | None:
        """What a stage told as JSON; None where it wrote none.

        Raises:
            DataError: the file is not such a result.
        """
        path = self.path(stage, name)
        return read_result(path, kind) if path else None

    def rows(self, stage: str, table: Table, name: str | None = None) -> Rows:
        """The rows of a declared table, none where the stage wrote none.

        Raises:
            DataError: the file is not such a table.
        """
        path = self.path(stage, f"{name or table.name}.parquet")
        return read_rows(path, table) if path else []

    def columns(self, stage: str, table: Table, columns: Sequence[str]) -> Rows:
        """Some columns of a declared table, for tables whose texts the page does not need."""
        return self.file_columns(stage, table.file_name, columns)

    def file_columns(self, stage: str, name: str, columns: Sequence[str]) -> Rows:
        """Some columns of a stage's Parquet file; nothing where it is not there."""
        path = self.path(stage, name)
        if path is None:
            return []
        found: Rows = _read_parquet(path, stage, columns).to_pylist()
        return found

    def metrics(self, stage: str) -> Rows:
        """A training stage's metrics, one row per logged step, in the order of steps."""
        path = self.path(stage, "metrics.parquet")
        if path is not None:
            found: Rows = _read_parquet(path, stage, None).to_pylist()
        else:
            found = self._metrics_lines(stage)
        return sorted(found, key=lambda row: row.get("step") or 0)

    def _metrics_lines(self, stage: str) -> Rows:
        path = self.path(stage, "metrics.jsonl")
        if path is None:
            return []
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            return [row for line in lines if isinstance(row := json.loads(line), dict)]
        except ValueError as error:
            raise DataError(f"{path}: not JSON lines ({error}); run {stage} again") from error


def _read_parquet(path: Path, stage: str, columns: Sequence[str] | None) -> pa.Table:
    try:
        return pq.read_table(path, columns=None if columns is None else list(columns))
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        first = first_line(error)
        raise DataError(f"{path}: cannot be read ({first}); run the stage {stage} again") from error
