"""Verdicts from a file, whoever saved them: our tables, or AlpacaEval's annotations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evals.files.alpaca_eval.annotations import PARQUET_COLUMNS
from evals.files.alpaca_eval.regression import Join
from evals.files.alpaca_eval.verdicts import read_annotations
from evals.files.external_files import choose
from evals.judges.layout import answer_text
from evals.win_rate.report import SIDES, JudgedComparisons
from schemas.errors import ConfigError, DataError, MissingInputError, PipelineError
from schemas.files import first_line
from schemas.parquet import read_rows
from schemas.results.base import read_result
from schemas.results.win_rates import Declared, WinRates
from schemas.tables import COMPARISONS, COMPLETIONS, VERDICTS

Row = dict[str, Any]

DECLARED = "declared.json"


def read_judged(
    path: Path,
    *,
    judge: str | None = None,
    model: str | None = None,
    instructions: Path | None = None,
    calibration: Path | None = None,
    join: Join = "id",
) -> JudgedComparisons:
    """Read the verdicts of one judge on one policy; what kind of file it is, the file says.

    Beside our verdicts.parquet the tables of the same stage are read where they are there: texts
    and categories from comparisons.parquet, endings from the completions.

    Args:
        path: verdicts.parquet, annotations.json, or the Parquet form of annotations.
        judge: whose verdicts, in a table of ours; None takes the judge that the run's own
            win_rates.json names first, else the only one.
        model: which model's, in a file of annotations.
        instructions: see `read_annotations`.
        calibration: see `read_annotations`.
        join: see `read_annotations`.

    Raises:
        MissingInputError, DataError, ConfigError: see `read_annotations`.
    """
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file; correct its path")
    if path.suffix == ".json" or _is_annotations(path):
        if judge is not None:
            raise ConfigError(f"--judge: {path} holds one annotator's rows; use --model")
        return read_annotations(path, model, instructions, calibration, join)
    if model or instructions or calibration or join != "id":
        raise ConfigError(
            f"{path}: --model, --instructions, --calibration and --join are for AlpacaEval's "
            "annotations; a table of verdicts takes --judge"
        )
    return _read_ours(path, judge)


def read_declared(path: Path) -> Declared | None:
    """What was declared before these verdicts were given; None where nothing was."""
    declared = path.with_name(DECLARED)
    return read_result(declared, Declared) if declared.is_file() else None


def judged_comparisons(
    verdicts: Sequence[Row],
    comparisons: Sequence[Row],
    completions: Mapping[Any, Sequence[Row]],
    *,
    judge_model: str = "",
    policy_model: str = "",
    until_settled: bool = False,
) -> JudgedComparisons:
    """One judge's VERDICTS rows with the COMPARISONS and COMPLETIONS rows they are about.

    Args:
        verdicts: of one judge.
        comparisons: A is the policy; none where they were not kept.
        completions: by side, policy and baseline.
        judge_model: name of the judge's model.
        policy_model: name of the policy's.
        until_settled: prompts were judged until the headline was settled.
    """
    texts = {
        row["comparison_id"]: (answer_text(row["completion_a"]), answer_text(row["completion_b"]))
        for row in comparisons
    }
    return JudgedComparisons(
        verdicts=verdicts,
        texts=texts,
        lengths={key: (len(policy), len(baseline)) for key, (policy, baseline) in texts.items()},
        categories={row["prompt_id"]: row["category"] for row in comparisons},
        finish_reasons={
            side: [row["finish_reason"] for row in rows] for side, rows in completions.items()
        },
        judge_model=judge_model,
        policy_model=policy_model,
        until_settled=until_settled,
    )


def _is_annotations(path: Path) -> bool:
    try:
        columns = pq.read_schema(path).names
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a Parquet file: {first_line(error)}") from error
    return set(PARQUET_COLUMNS) <= set(columns)


def _read_ours(path: Path, judge: str | None) -> JudgedComparisons:
    rows = read_rows(path, VERDICTS)
    if not rows:
        raise DataError(f"{path}: has no rows")
    names = [row["judge"] for row in rows]
    first = _first_judge(path.with_name("win_rates.json"))
    chosen = choose(path, "judge", names, judge or (first if first in names else None))
    mine = [row for row in rows if row["judge"] == chosen]
    if len({row["judge_fingerprint"] for row in mine}) > 1:
        raise DataError(f"{path}: {chosen} stands for several judges; keep one fingerprint's rows")
    declared = read_declared(path)
    return judged_comparisons(
        mine,
        _beside(path, COMPARISONS.file_name),
        {side: _beside(path, f"completions_{side}.parquet") for side in SIDES},
        until_settled=bool(declared and declared.until_settled),
    )


def _beside(path: Path, name: str) -> list[Row]:
    table = COMPARISONS if name == COMPARISONS.file_name else COMPLETIONS
    found = path.with_name(name)
    return read_rows(found, table) if found.exists() else []


def _first_judge(path: Path) -> str | None:
    """The judge that the stage reported first; a file that cannot be read names none."""
    try:
        rates = read_result(path, WinRates).root
    except PipelineError:
        return None
    return next((rate.judge for rate in rates.values()), None)
