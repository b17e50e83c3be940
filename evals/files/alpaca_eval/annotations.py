"""Published annotations of one model, from JSON or Parquet, row by row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evals.files.alpaca_eval.orders import shown_order
from evals.files.external_files import choose, read_columns, read_json
from schemas.errors import DataError
from schemas.ids import content_id
from schemas.labels import Order

Row = dict[str, Any]

PARQUET_COLUMNS = (
    "model",
    "row_index",
    "instruction_id",
    "preference",
    "len_baseline",
    "len_model",
    "baseline_shown_first",
)
_ROUNDING = 1e-9
"""Sums of probabilities end this far outside of their range."""

JSON_KEYS = ("instruction", "output_1", "output_2", "generator_2", "preference")


@dataclass(frozen=True)
class Annotation:
    """One published row. `key` names the instruction: its number, or its text; `position` counts
    the rows of the model's file from 0; `output_model` and its like are None where not kept.
    """

    key: int | str
    position: int
    preference: float | None
    order: Order
    len_model: int
    len_baseline: int
    dataset: str | None
    annotator: str
    output_model: str | None = None
    output_baseline: str | None = None

    @property
    def prompt_id(self) -> str:
        """Numbers keep their order as text; texts are hashed."""
        if isinstance(self.key, int):
            return f"{self.key:06d}"
        return content_id("alpaca_eval", self.key)


def annotations_of(path: Path, model: str | None) -> tuple[str, list[Annotation]]:
    """The model's name and its rows, in the file's order, one per instruction.

    Raises:
        MissingInputError: no such file.
        DataError: the file is not what it must be; the message names the row.
        ConfigError: no such model, or several and none named.
    """
    name, found = _read(path, model)
    _refuse_repeats(found, path)
    return name, found


def _read(path: Path, model: str | None) -> tuple[str, list[Annotation]]:
    if path.suffix == ".json":
        rows = _json_rows(path)
        name = choose(path, "model", _models(rows, model), model)
        mine = [row for row in rows if name in (row["generator_2"], row.get("generator_1"))]
        return name, [_of_model(name, path, index, row) for index, row in enumerate(mine)]
    table = read_columns(path, PARQUET_COLUMNS)
    name = choose(path, "model", table["model"].to_pylist(), model)
    rows = [row for row in table.to_pylist() if row["model"] == name]
    return name, [_from_parquet(path, row) for row in rows]


def _models(rows: Sequence[Row], wanted: str | None) -> list[str]:
    """Who is compared with the baseline; the one wanted where it stands first everywhere."""
    second = [str(row["generator_2"]) for row in rows]
    stands_first = any(row.get("generator_1") == wanted for row in rows)
    if wanted is not None and wanted not in second and stands_first:
        return [wanted]
    return second


def _json_rows(path: Path) -> list[Row]:
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path}: not a list of annotations; give AlpacaEval's annotations.json")
    for index, row in enumerate(rows):
        missing = [k for k in JSON_KEYS if not isinstance(row, dict) or k not in row]
        if missing:
            raise DataError(f"{path}: row {index}: {missing[0]} is missing")
        wrong = [k for k in JSON_KEYS[:4] if not isinstance(row[k], str)]
        if wrong:
            raise DataError(f"{path}: row {index}: {wrong[0]} is not a text")
    return rows


def _of_model(name: str, path: Path, index: int, row: Row) -> Annotation:
    """The row with the model as the second of both, wherever it stands."""
    found = _from_json(path, index, row)
    if row["generator_2"] == name:
        return found
    return replace(
        found,
        preference=None if found.preference is None else 3 - found.preference,
        order=Order.AB if found.order is Order.BA else Order.BA,
        len_model=found.len_baseline,
        len_baseline=found.len_model,
        output_model=found.output_baseline,
        output_baseline=found.output_model,
    )


def _from_json(path: Path, index: int, row: Row) -> Annotation:
    preference = _preference(path, index, row["preference"])
    return Annotation(
        key=row["instruction"],
        position=index,
        preference=preference,
        order=shown_order(row, preference),
        len_model=len(row["output_2"]),
        len_baseline=len(row["output_1"]),
        dataset=row.get("dataset"),
        annotator=str(row.get("annotator") or "alpaca_eval"),
        output_model=row["output_2"],
        output_baseline=row["output_1"],
    )


def _from_parquet(path: Path, row: Row) -> Annotation:
    index = row["row_index"]
    numbers = ("row_index", "instruction_id", "len_model", "len_baseline")
    for name in (*numbers, "baseline_shown_first"):
        if not isinstance(row[name], int):
            raise DataError(f"{path}: {row['model']} row {index}: {name} is {row[name]!r}")
    return Annotation(
        key=row["instruction_id"],
        position=index,
        preference=_preference(path, index, row["preference"]),
        order=Order.BA if row["baseline_shown_first"] else Order.AB,
        len_model=row["len_model"],
        len_baseline=row["len_baseline"],
        dataset=row.get("dataset"),
        annotator="alpaca_eval",
    )


def _preference(path: Path, index: int, value: Any) -> float | None:
    if value is None or value == -1:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{path}: row {index}: preference is {value!r}, not a number")
    if math.isnan(value):
        return None
    if value == 0:
        return 1.5
    inside = min(2.0, max(1.0, float(value)))
    if abs(inside - value) > _ROUNDING:
        raise DataError(f"{path}: row {index}: preference is {value}, must be 0 or in [1, 2]")
    return inside


def _refuse_repeats(annotations: Sequence[Annotation], path: Path) -> None:
    seen: dict[str, int] = {}
    for annotation in annotations:
        first = seen.setdefault(annotation.prompt_id, annotation.position)
        if first != annotation.position:
            raise DataError(
                f"{path}: rows {first} and {annotation.position} are of one instruction; remove one"
            )
