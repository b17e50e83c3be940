"""JudgeBench's accuracies over both orders, from the judges' decisions (arXiv 2410.12784).

A pair is right where its decisions together name the better response: one order alone that has
decided decides, and a tie of both is wrong.
"""

from collections.abc import Iterator
from pathlib import Path

from evals.files.external_files import read_columns
from evals.files.judge_bench import COLUMNS, read_judgements
from evals.files.published.numbers import Number
from evals.win_rate.win_rate import discrete_scores

ACCURACIES = {
    "o1-mini-2024-09-12": 65.71,
    "claude-3-haiku-20240307": 32.22,
    "Skywork_Skywork-Reward-Gemma-2-27B": 64.29,
    "internlm_internlm2-20b-reward": 63.43,
}
_TWO_DIGITS = 0.005


def judge_bench(folder: Path) -> Iterator[Number]:
    """Accuracy in percent of every judge of the file whose number was published.

    Raises:
        MissingInputError, DataError: the file is not there, or another.
    """
    path = folder / "judgebench_judgments.parquet"
    table = read_columns(path, (*COLUMNS, "label"))
    labels = {row["pair_id"]: row["label"] for row in table.to_pylist()}
    for judge in sorted(set(table["judge"].to_pylist()) & ACCURACIES.keys()):
        rows = read_judgements(path, judge)
        scores = discrete_scores([row for row in rows if row["verdict"] is not None])
        pairs = {row["prompt_id"] for row in rows}
        right = sum(scores.get(pair) == float(labels[pair] == "A>B") for pair in pairs)
        accuracy = 100 * right / len(pairs)
        yield Number(judge, "accuracy", ACCURACIES[judge], accuracy, _TWO_DIGITS)
