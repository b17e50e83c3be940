"""AlpacaEval 2's leaderboard, from the preferences that it was made of.

The folder holds annotations.parquet and leaderboard.parquet, and for length-controlled rates
instructions.parquet and the calibration rows; or it is the published repository, or its git
directory. Rates are in percent, as published.
"""

from collections.abc import Iterator
from pathlib import Path

from evals.files.alpaca_eval.verdicts import read_annotations
from evals.files.external_files import read_columns
from evals.files.published.numbers import Files, Number
from evals.files.published.published_layouts import alpaca_eval_repository
from evals.statistics.estimates import estimate_mean
from evals.win_rate.length_control import length_controlled
from evals.win_rate.report import length_sample
from evals.win_rate.win_rate import discrete_scores, prompt_scores

_EXACT = 1e-6
LENGTH_CONTROLLED = 0.15
"""Points: the published regression has a penalty of its own."""

COLUMNS = ("model", "win_rate", "standard_error", "discrete_win_rate", "n_total")


def alpaca_eval(folder: Path) -> Iterator[Number]:
    """Win rate, its error, discrete and length-controlled win rate of every model of the folder.

    Raises:
        MissingInputError, DataError: a file is not there, or another.
    """
    if not (folder / "leaderboard.parquet").is_file() and folder.is_dir():
        yield from alpaca_eval_repository(Files(folder))
        return
    board = read_columns(folder / "leaderboard.parquet", COLUMNS).to_pylist()
    difficulties = folder / "instructions.parquet"
    controlled = difficulties.is_file() and (folder / "gamed_calibration.parquet").is_file()
    for row in sorted(board, key=lambda row: str(row["model"])):
        judged = read_annotations(
            folder / "annotations.parquet",
            row["model"],
            difficulties if controlled else None,
            folder if controlled else None,
            "position",
        )
        found = estimate_mean(prompt_scores(judged.verdicts))
        discrete = estimate_mean(discrete_scores(judged.verdicts))
        ours = {
            "win_rate": 100 * (found.value or 0.0),
            "standard_error": 100 * (found.standard_error or 0.0),
            "discrete_win_rate": 100 * (discrete.value or 0.0),
            "n_total": float(found.n),
        }
        for what, value in ours.items():
            yield Number(row["model"], what, float(row[what]), value, _EXACT)
        sample = length_sample(judged) if controlled else None
        if sample is not None and row.get("length_controlled_winrate") is not None:
            rate = length_controlled(sample, judged.calibration, draws=2).win_rate
            yield Number(
                row["model"],
                "length_controlled_winrate",
                float(row["length_controlled_winrate"]),
                float("nan") if rate is None else 100 * rate,
                LENGTH_CONTROLLED,
            )
