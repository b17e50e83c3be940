"""What the length-controlled regression takes from AlpacaEval: difficulties, calibration rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from evals.files.alpaca_eval.annotations import Annotation
from evals.files.external_files import read_columns, read_json
from evals.win_rate.logistic import Calibration
from schemas.errors import DataError

Join = Literal["id", "position"]


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


def read_difficulties(
    path: Path, annotations: Sequence[Annotation], join: Join
) -> dict[str, float]:
    """Difficulty of each annotation's instruction, in logits, by prompt id.

    Raises:
        MissingInputError: no such file.
        DataError: an instruction has none.
    """
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
