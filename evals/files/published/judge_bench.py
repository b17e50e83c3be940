"""JudgeBench's accuracies over both orders, from the judges' decisions (arXiv 2410.12784).

The folder holds judgebench_judgments.parquet, or is the published repository, or its git directory.
A pair is right where its decisions together name the better response: one order alone that has
decided decides, and a tie of both is wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.files.external_files import read_columns
from evals.files.judge_bench import COLUMNS, read_judgements
from evals.files.published.numbers import Files, Number
from evals.files.published.published_layouts import judge_bench_rows
from evals.win_rate.win_rate import discrete_scores

ACCURACIES = {
    "o1-mini-2024-09-12": 65.71,
    "claude-3-haiku-20240307": 32.22,
    "Skywork_Skywork-Reward-Gemma-2-27B": 64.29,
    "internlm_internlm2-20b-reward": 63.43,
}
_RESPONSES = dict.fromkeys(ACCURACIES, "gpt-4o-2024-05-13") | {
    "claude-3-haiku-20240307": "claude-3-5-sonnet-20240620"
}
"""On whose responses each was measured; the repository has some judges on both."""
_TWO_DIGITS = 0.005


def judge_bench(folder: Path) -> Iterator[Number]:
    """Accuracy in percent of every judge of the file whose number was published.

    Raises:
        MissingInputError, DataError: the file is not there, or another.
    """
    path = folder / "judgebench_judgments.parquet"
    if not path.is_file() and folder.is_dir():
        yield from _of_repository(folder)
        return
    table = read_columns(path, (*COLUMNS, "label"))
    labels = {row["pair_id"]: row["label"] for row in table.to_pylist()}
    for judge in sorted(set(table["judge"].to_pylist()) & ACCURACIES.keys()):
        yield _accuracy(judge, read_judgements(path, judge), labels)


def _of_repository(folder: Path) -> Iterator[Number]:
    """The same of the repository's own files of JSON lines, which hold the labels too."""
    labels: dict[str, str] = {}
    by_judge: dict[str, list[Mapping[str, Any]]] = {}
    for judge, label, row in judge_bench_rows(Files(folder), _RESPONSES):
        labels[row["prompt_id"]] = label
        by_judge.setdefault(judge, []).append(row)
    for judge in sorted(by_judge):
        yield _accuracy(judge, by_judge[judge], labels)


def _accuracy(judge: str, rows: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> Number:
    scores = discrete_scores([row for row in rows if row["verdict"] is not None])
    pairs = {row["prompt_id"] for row in rows}
    right = sum(scores.get(pair) == float(labels[pair] == "A>B") for pair in pairs)
    return Number(judge, "accuracy", ACCURACIES[judge], 100 * right / len(pairs), _TWO_DIGITS)
