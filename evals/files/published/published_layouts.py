"""AlpacaEval's and JudgeBench's own repositories as they were published: JSON, JSON lines, CSV."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from evals.files.judge_bench import verdict_row
from evals.files.published.numbers import Files, Number
from evals.statistics.estimates import estimate_mean
from schemas.errors import DataError

ANNOTATOR = "weighted_alpaca_eval_gpt4_turbo"
_ANNOTATIONS = re.compile(rf"(?:.*/)?(?P<model>[^/]+)/{ANNOTATOR}/annotations\.json")
_JUDGED = re.compile(
    r"(?:.*/)?dataset=judgebench,response_model=(?P<answers>[^,]+),.*judge_model=(?P<judge>[^/]+)\.jsonl"
)
_EXACT = 1e-6


def alpaca_eval_repository(files: Files) -> Iterator[Number]:
    """Win rate, error, discrete rate and count of every model whose annotations are there.

    The files are results/MODEL/weighted_alpaca_eval_gpt4_turbo/annotations.json and the leaderboard
    of that annotator. Length-controlled rates need the difficulties of the Parquet folder.

    Raises:
        MissingInputError, DataError: a file is not there, or another.
    """
    hint = "clone AlpacaEval's repository, or give a folder with its results and leaderboard"
    boards = files.matching(f"*{ANNOTATOR}_leaderboard.csv", hint)
    board_name = max(boards, key=lambda name: ("leaderboards/data_AlpacaEval_2" in name, name))
    text = files.read(board_name).decode("utf-8-sig")
    board = {row.get("", row.get("name", "")): row for row in csv.DictReader(io.StringIO(text))}
    for name in files.matching(f"*{ANNOTATOR}/annotations.json", hint):
        found = _ANNOTATIONS.fullmatch(name)
        row = board.get(found["model"]) if found else None
        if row is None:
            continue
        preferences = _preferences(files, name)
        soft = estimate_mean({str(i): p - 1 for i, p in enumerate(preferences)})
        hard = estimate_mean({str(i): _hard(p) for i, p in enumerate(preferences)})
        ours = {
            "win_rate": 100 * (soft.value or 0.0),
            "standard_error": 100 * (soft.standard_error or 0.0),
            "discrete_win_rate": 100 * (hard.value or 0.0),
            "n_total": float(len(preferences)),
        }
        for what, value in ours.items():
            if row.get(what):
                yield Number(
                    str(row.get("") or row.get("name")), what, float(row[what]), value, _EXACT
                )


def _hard(preference: float) -> float:
    return 0.5 if preference == 1.5 else float(preference > 1.5)


def _preferences(files: Files, name: str) -> list[float]:
    """1 the baseline, 2 the model, between them how sure; failed annotations are left out."""
    try:
        rows = json.loads(files.read(name))
        return [float(p) for row in rows if (p := row["preference"]) is not None and p == p]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(
            f"{files.path}: {name}: not AlpacaEval's annotations ({error}); fetch it again"
        ) from error


def judge_bench_rows(
    files: Files, responses: Mapping[str, str]
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Of outputs/dataset=judgebench,...,judge_model=M.jsonl: judge, true label, and a verdict
    of the judges asked
    for, each on the responses of one model.

    Raises:
        MissingInputError, DataError: there are none, or a row is another.
    """
    hint = "clone JudgeBench's repository, or give the folder of its outputs"
    for name in files.matching("*dataset=judgebench,*judge_model=*.jsonl", hint):
        matched = _JUDGED.fullmatch(name)
        if matched is None or responses.get(matched["judge"]) != matched["answers"]:
            continue
        for number, row in files.json_lines(name):
            try:
                for side, said in zip("AB", row["judgments"], strict=False):
                    yield (
                        matched["judge"],
                        row["label"],
                        verdict_row(_row(row, matched, side, said)),
                    )
            except (KeyError, TypeError) as error:
                raise DataError(
                    f"{files.path}: {name}: row {number}: not JudgeBench's judgements ({error})"
                ) from error


def _row(
    row: Mapping[str, Any], matched: re.Match[str], side: str, said: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        "judge": matched["judge"],
        "pair_id": row["pair_id"],
        "shown_A_is": side,
        "decision": said["decision"] if said else None,
        "judgment_text": "",
    }
