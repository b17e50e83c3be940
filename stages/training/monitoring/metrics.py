"""The record of a training: one row per step, appended as it happens."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import DataError
from schemas.files import write_text, writing_file
from schemas.ids import content_id

Row = dict[str, float]

METRICS_JSONL = "metrics.jsonl"
METRICS_PARQUET = "metrics.parquet"

# Depend on the machine and its load; every other column is the same in every run.
PERFORMANCE = ("tokens_per_second", "peak_memory_bytes")


def content(path: Path) -> str | None:
    """The hash of a training's record without what the machine and its load have made of it."""
    if path.name == METRICS_PARQUET:
        table = pq.read_table(path)
        kept = table.drop_columns([n for n in PERFORMANCE if n in table.column_names])
        return content_id("metrics", json.dumps(kept.to_pylist()))
    if path.name == METRICS_JSONL:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return content_id("metrics", json.dumps([_lasting(row) for row in rows]))
    return None


def _lasting(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in PERFORMANCE}


def _hashed(row: Row) -> bytes:
    return json.dumps(_lasting(row)).encode() + b"\n"


def damaged(what: Path, output: Path) -> DataError:
    """That something which a killed training in `output` has left cannot be gone on with."""
    return DataError(
        f"{what}: damaged since it was written; remove {output}, and the training begins again"
    )


class MetricsLog:
    """metrics.jsonl of a training, cut back to the step that a resumed run continues from.

    `rows` holds all rows so far, oldest first; row 0 is the evaluation before the first step.
    """

    def __init__(self, folder: Path, resumed_step: int | None, record: str = "") -> None:
        """`resumed_step` is None for a training that begins; what is there is then dropped.

        `record` is the digest that the rows up to that step had, "" where nobody knows.

        Raises:
            DataError: they are others now, or a whole line is none of ours.
        """
        self._folder = folder
        self._hash = sha256()
        self.rows = [] if resumed_step is None else self._kept(resumed_step)
        for row in self.rows:
            self._hash.update(_hashed(row))
        if resumed_step is not None and record and self.digest() != record:
            raise damaged(folder / METRICS_JSONL, folder)
        self._rewrite()
        self._file: IO[str] = (folder / METRICS_JSONL).open("a", encoding="utf-8")

    def append(self, row: Mapping[str, float]) -> None:
        """Write one row; it is in the file when this returns."""
        self.rows.append(dict(row))
        self._hash.update(_hashed(self.rows[-1]))
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def digest(self) -> str:
        """The hash of all rows so far, without what the machine and its load have made of them."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Stop writing rows."""
        self._file.close()

    def write_parquet(self) -> None:
        """Write metrics.parquet: a column per metric, null where a step has none."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        schema = pa.schema([(n, pa.int64() if n == "step" else pa.float64()) for n in names])
        table = pa.Table.from_pylist(self.rows, schema=schema)
        with writing_file(self._folder / METRICS_PARQUET) as temporary:
            pq.write_table(table, temporary)

    def _kept(self, resumed_step: int) -> list[Row]:
        path = self._folder / METRICS_JSONL
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        rows: list[Row] = []
        for number, line in enumerate(lines):
            if not line.endswith(b"\n"):
                break  # the line that was being written when the process died
            try:
                row = json.loads(line)
                if row["step"] <= resumed_step:
                    rows.append(row)
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{path}: line {number + 1} is damaged; remove {self._folder}, and the "
                    "training begins again"
                ) from error
        return rows

    def _rewrite(self) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in self.rows)
        write_text(self._folder / METRICS_JSONL, lines)
