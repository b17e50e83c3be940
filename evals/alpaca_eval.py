"""AlpacaEval's published annotations, as JSON or Parquet, read as verdicts of model over baseline.

A preference lies in [1, 2]: 1 the baseline is better, 2 the model is, 1.5 a tie; 0 is the older
word for a tie, and a missing one or -1 means that the annotator failed.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from evals.foreign_files import choose, read_columns, read_json
from evals.length_control import Calibration
from evals.win_rate import IDENTICAL
from evals.win_rate_report import JudgedComparisons
from schemas.errors import ConfigError, DataError
from schemas.ids import content_id
from schemas.labels import Order, Preference

Row = dict[str, Any]
Join = Literal["id", "position"]

PARQUET_COLUMNS = (
    "model",
    "row_index",
    "instruction_id",
    "preference",
    "len_baseline",
    "len_model",
    "baseline_shown_first",
)
JSON_KEYS = ("instruction", "output_1", "output_2", "generator_2", "preference")

_SAME = 1e-6


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


def read_annotations(
    path: Path,
    model: str | None = None,
    instructions: Path | None = None,
    calibration: Path | None = None,
    join: Join = "id",
) -> JudgedComparisons:
    """Verdicts of one model's comparisons with the baseline, with all that length control needs.

    Args:
        path: annotations.json, or the Parquet form of several models' annotations.
        model: which one; may be None where the file holds one only.
        instructions: a Parquet table of instruction_id, instruction and instruction_difficulty.
        calibration: the folder of gamed_calibration.parquet and gamed_sufficient_stats.json.
        join: how a difficulty finds its row. `position` repeats the published numbers, which take
            the k-th difficulty for the k-th row even where rows before it are missing.

    Raises:
        MissingInputError: a file is not there.
        DataError: a file is not what it must be; the message names the row.
        ConfigError: no such model, several models and none named, or calibration rows without
            difficulties to go with.
    """
    if calibration is not None and instructions is None:
        raise ConfigError("--calibration: its rows need difficulties; give --instructions too")
    name, annotations = _annotations(path, model)
    _refuse_repeats(annotations, path)
    difficulty = None if instructions is None else _difficulties(instructions, annotations, join)
    texts = {
        a.prompt_id: (a.output_model, a.output_baseline)
        for a in annotations
        if a.output_model is not None and a.output_baseline is not None
    }
    return JudgedComparisons(
        verdicts=[_verdict(a) for a in annotations],
        texts=texts,
        lengths={a.prompt_id: (a.len_model, a.len_baseline) for a in annotations},
        categories={a.prompt_id: a.dataset for a in annotations},
        difficulty=difficulty,
        calibration=None if calibration is None else read_calibration(calibration),
        judge_model=annotations[0].annotator,
        policy_model=name,
    )


def preference_from_logprobs(
    first: float | None, second: float | None, *, model_first: bool
) -> float | None:
    """The preference that the log-probabilities of "first is better" and "second is" come to.

    1 + p(model), p the share of its token in both; a missing token has none. None where both miss.

    Args:
        first: log-probability of the token that names the output shown first.
        second: of the one that names the output shown second.
        model_first: whether the model's output was shown first.
    """
    if first is None and second is None:
        return None
    one = -math.inf if first is None else first
    two = -math.inf if second is None else second
    top = max(one, two)
    share = math.exp(one - top) / (math.exp(one - top) + math.exp(two - top))
    return 1 + share if model_first else 2 - share


def hashed_order(instruction: str) -> Order:
    """The order in which AlpacaEval shows the outputs: drawn from the instruction's text.

    The same for every model, so that the judge's bias for a place does not average out.
    """
    drawn = random.Random(f"is_switched_outputs{instruction}0").choices([False, True], k=1)[0]
    return Order.AB if drawn else Order.BA


def read_calibration(folder: Path) -> Calibration:
    """The calibration rows of the length-controlled regression, and their labels' sums.

    Raises:
        MissingInputError: a file is not there.
        DataError: a file is not what it must be.
    """
    rows = read_columns(folder / "gamed_calibration.parquet", _CALIBRATION_COLUMNS)
    path = folder / "gamed_sufficient_stats.json"
    sums = read_json(path)
    try:
        labels = [float(sums[key]) for key in ("T1_sum_w_y_tanhlen", "T2_sum_w_y_difficulty")]
        weight = float(sums["weight_per_row"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: {error!r}: not the sums of calibration labels") from error
    features = np.stack([rows[name].to_numpy() for name in _CALIBRATION_COLUMNS], axis=1)
    return Calibration(features.astype(np.float64), np.array(labels), weight)


_CALIBRATION_COLUMNS = ("tanh_std_delta_len", "instruction_difficulty")


def _annotations(path: Path, model: str | None) -> tuple[str, list[Annotation]]:
    if path.suffix == ".json":
        rows = _json_rows(path)
        name = choose(path, "model", [str(row["generator_2"]) for row in rows], model)
        mine = [row for row in rows if str(row["generator_2"]) == name]
        return name, [_from_json(path, index, row) for index, row in enumerate(mine)]
    table = read_columns(path, PARQUET_COLUMNS)
    name = choose(path, "model", table["model"].to_pylist(), model)
    rows = [row for row in table.to_pylist() if row["model"] == name]
    return name, [_from_parquet(path, row) for row in rows]


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


def _from_json(path: Path, index: int, row: Row) -> Annotation:
    preference = _preference(path, index, row["preference"])
    return Annotation(
        key=row["instruction"],
        position=index,
        preference=preference,
        order=_order(row, preference),
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
    if value != 0 and not 1 <= value <= 2:
        raise DataError(f"{path}: row {index}: preference is {value}, must be 0 or in [1, 2]")
    return 1.5 if value == 0 else float(value)


def _order(row: Row, preference: float | None) -> Order:
    """The order that the kept log-probabilities prove, else the one AlpacaEval would draw."""
    first, second = _logprobs(row.get("raw_completion"))
    if preference is not None and (first is not None or second is not None):
        told = {
            order: preference_from_logprobs(first, second, model_first=order is Order.AB)
            for order in Order
        }
        fits = [o for o, p in told.items() if p is not None and abs(p - preference) < _SAME]
        if len(fits) == 1:
            return fits[0]
    return hashed_order(row["instruction"])


def _logprobs(raw: Any) -> tuple[float | None, float | None]:
    """Log-probabilities of the tokens m (shown first) and M of the judge's only token."""
    try:
        found = {t["token"]: float(t["logprob"]) for t in _top_logprobs(raw)}
    except (KeyError, TypeError, ValueError, IndexError):
        return None, None
    return found.get("m"), found.get("M")


def _top_logprobs(raw: Any) -> Iterator[Mapping[str, Any]]:
    yield from raw["logprobs"]["content"][0]["top_logprobs"]


def _refuse_repeats(annotations: Sequence[Annotation], path: Path) -> None:
    seen: dict[str, int] = {}
    for annotation in annotations:
        first = seen.setdefault(annotation.prompt_id, annotation.position)
        if first != annotation.position:
            raise DataError(
                f"{path}: rows {first} and {annotation.position} are of one instruction; remove one"
            )


def _difficulties(path: Path, annotations: Sequence[Annotation], join: Join) -> dict[str, float]:
    """Difficulty by prompt id. Raises DataError where an instruction has none."""
    table = read_columns(path, ("instruction_id", "instruction", "instruction_difficulty"))
    difficulty = table["instruction_difficulty"].to_pylist()
    column = "instruction_id" if isinstance(annotations[0].key, int) else "instruction"
    places = {key: place for place, key in enumerate(table[column].to_pylist())}
    found = {}
    for a in annotations:
        place = a.position if join == "position" else places.get(a.key)
        if place is None or place >= len(difficulty) or difficulty[place] is None:
            raise DataError(f"{path}: no difficulty for row {a.position} ({str(a.key)[:60]!r})")
        found[a.prompt_id] = float(difficulty[place])
    return found


def _verdict(annotation: Annotation) -> Row:
    preference = annotation.preference
    p_a = None if preference is None else preference - 1
    return {
        "comparison_id": annotation.prompt_id,
        "prompt_id": annotation.prompt_id,
        "judge": annotation.annotator,
        "judge_fingerprint": annotation.annotator,
        "order": annotation.order.value,
        "p_a": p_a,
        "p_b": None if p_a is None else 1 - p_a,
        "p_tie": None if p_a is None else 0.0,
        "verdict": None if p_a is None else _label(p_a),
        "unscored_reason": "no_preference" if p_a is None else None,
        "raw": IDENTICAL if _identical(annotation) else "",
    }


def _identical(annotation: Annotation) -> bool:
    return annotation.output_model is not None and (
        annotation.output_model == annotation.output_baseline
    )


def _label(p_a: float) -> str:
    if p_a == 0.5:
        return Preference.TIE.value
    return Preference.A.value if p_a > 0.5 else Preference.B.value
