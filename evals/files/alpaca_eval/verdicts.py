"""Published annotations as verdicts: the model is A, the baseline B, the unit the instruction."""

from pathlib import Path
from typing import Any

from evals.files.alpaca_eval.annotations import Annotation, annotations_of
from evals.files.alpaca_eval.regression import Join, read_calibration, read_difficulties
from evals.win_rate.report import JudgedComparisons
from evals.win_rate.win_rate import IDENTICAL
from schemas.errors import ConfigError
from schemas.labels import Preference

Row = dict[str, Any]


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
    name, annotations = annotations_of(path, model)
    difficulty = (
        None if instructions is None else read_difficulties(instructions, annotations, join)
    )
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
