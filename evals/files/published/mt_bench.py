"""MT-Bench's scores and win rates, from the judge's verdicts (L. Zheng et al., arXiv 2306.05685).

A copy of its data has `model_judgment/JUDGE_single.jsonl`, ratings from 1 to 10 by turn, and
`JUDGE_pair.jsonl`, winners in both orders: who wins both wins, all else is a tie.
"""

from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatch

from evals.files.published.numbers import Files, Number
from evals.statistics.means import mean
from schemas.errors import DataError, MissingInputError

SINGLE, PAIR = "*model_judgment/*_single.jsonl", "*model_judgment/*_pair.jsonl"
_TWO_DIGITS = 0.005

AVERAGES = {
    "gpt-4": 8.99,
    "gpt-3.5-turbo": 7.94,
    "claude-v1": 7.90,
    "claude-instant-v1": 7.85,
    "vicuna-33b-v1.3": 7.12,
    "wizardlm-30b": 7.01,
    "guanaco-33b": 6.53,
    "tulu-30b": 6.43,
    "guanaco-65b": 6.41,
    "oasst-sft-7-llama-30b": 6.41,
    "palm-2-chat-bison-001": 6.40,
    "vicuna-13b-v1.3": 6.39,
    "mpt-30b-chat": 6.39,
    "wizardlm-13b": 6.35,
    "vicuna-7b-v1.3": 6.00,
    "baize-v2-13b": 5.75,
    "nous-hermes-13b": 5.51,
    "mpt-7b-chat": 5.42,
    "gpt4all-13b-snoozy": 5.41,
    "koala-13b": 5.35,
    "mpt-30b-instruct": 5.22,
    "falcon-40b-instruct": 5.17,
    "alpaca-13b": 4.53,
    "chatglm-6b": 4.50,
}
"""Means over both turns by GPT-4, as published on 2023-06-22."""


def mt_bench(files: Files) -> Iterator[Number]:
    """Mean rating of each model by turn and over both; its win rates where pairs were judged.

    Raises:
        MissingInputError, DataError: no verdicts there, or files that are something else.
    """
    single, pair = ([n for n in files.names if fnmatch(n, pattern)] for pattern in (SINGLE, PAIR))
    if not single and not pair:
        raise MissingInputError(
            f"{files.path}: holds no {SINGLE} and no {PAIR}; give a copy of its data, or of the "
            "repository with data/mt_bench in it"
        )
    for name in sorted(single):
        yield from _ratings(files, name)
    for name in sorted(pair):
        yield from _win_rates(files, name)


def _ratings(files: Files, name: str) -> Iterator[Number]:
    """A rating of -1 is none."""
    by_turn: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    judge = _judge(name, "_single.jsonl")
    for number, row in files.json_lines(name):
        try:
            score, turn = float(row["score"]), int(row["turn"])
            if score != -1:
                by_turn[str(row["model"])][turn].append(score)
        except (KeyError, TypeError, ValueError) as error:
            raise _other(files, name, number, error) from error
    for model, turns in sorted(by_turn.items()):
        for turn, scores in sorted(turns.items()):
            yield Number(f"{model}, {judge}", f"rating, turn {turn}", None, mean(scores), 0.0)
        every = [score for scores in turns.values() for score in scores]
        known = AVERAGES.get(model.lower()) if judge == "gpt-4" else None
        yield Number(f"{model}, {judge}", "rating", known, mean(every), _TWO_DIGITS)


def _win_rates(files: Files, name: str) -> Iterator[Number]:
    """Against everyone it was compared with; a tie is half, a failed game leaves its pair out."""
    scores: dict[str, list[float]] = defaultdict(list)
    judge = _judge(name, "_pair.jsonl")
    for number, row in files.json_lines(name):
        try:
            winners = {row["g1_winner"], row["g2_winner"]}
            if "error" in winners:
                continue
            one, other = str(row["model_1"]), str(row["model_2"])
        except (KeyError, TypeError) as error:
            raise _other(files, name, number, error) from error
        first = pairwise_score(str(row["g1_winner"]), str(row["g2_winner"]))
        scores[one].append(first)
        scores[other].append(1 - first)
    for model, found in sorted(scores.items()):
        yield Number(f"{model}, {judge}", "win rate, ties half", None, mean(found), 0.0)


def pairwise_score(first: str, second: str) -> float:
    """Of model_1, from who won each game: 1 or 0 where both games agree, else 0.5."""
    if first != second or first == "tie":
        return 0.5
    return float(first == "model_1")


def _judge(name: str, ending: str) -> str:
    return name.rpartition("/")[2].removesuffix(ending)


def _other(files: Files, name: str, number: int, error: Exception) -> DataError:
    return DataError(
        f"{files.path}: {name}: row {number}: no verdict in MT-Bench's layout ({error!r})"
    )
