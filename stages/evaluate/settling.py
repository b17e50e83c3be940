"""Judging no further than it takes to tell which of two models is better."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from evals.judges import Judge
from evals.statistics.sequences import settled
from evals.win_rate.win_rate import worst_scores
from schemas.ids import content_id
from schemas.results.measures import Measure
from schemas.stage import Progress
from stages.evaluate.compare import Match

Row = dict[str, Any]

FIRST_LOOK = 32
"""Prompts before the first look. Looks are free in what they may err; each costs a batch's end."""
_FURTHER = 1.1


def judge_until_settled(
    match: Match,
    judge: Judge,
    opens: Callable[[], Judge],
    measure: Measure,
    progress: Progress,
) -> None:
    """Judge prompts in shuffled order, and keep the comparisons judged when the match is settled.

    Settled means that the measure's always-valid interval lies on one side of one half, whatever
    the comparisons without a score had been. The same prompts always stop at the same place.

    Args:
        match: its comparisons are all that could be judged; fewer afterwards.
        judge: who decides when to stop.
        opens: opens the same judge elsewhere.
        measure: the declared headline, no length-controlled one.
        progress: told how many prompts it took.
    """
    shuffled = _by_prompt(match.comparisons)
    total, n = len(shuffled), 0
    while n < total:
        n = min(total, max(FIRST_LOOK, round(n * _FURTHER), n + 1))
        match.comparisons = [row for rows in shuffled[:n] for row in rows]
        chosen = {row["comparison_id"] for row in match.comparisons}
        rows = [row for row in match.judge(judge, opens) if row["comparison_id"] in chosen]
        scores = worst_scores(rows, discrete=measure == "discrete")
        if settled(np.array(scores[0]), np.array(scores[1])):
            break
    match.comparisons.sort(key=lambda row: str(row["comparison_id"]))
    progress.note(f"evaluate: {n:,} of {total:,} prompts judged, {_why(n, total)}")


def _why(n: int, total: int) -> str:
    return "until it was settled" if n < total else "all there were"


def _by_prompt(comparisons: Sequence[Row]) -> list[list[Row]]:
    """The comparisons of each prompt together, the prompts in an order of chance, always alike."""
    of_prompt: dict[str, list[Row]] = {}
    for row in comparisons:
        of_prompt.setdefault(str(row["prompt_id"]), []).append(row)
    chance = sorted(of_prompt, key=lambda prompt: content_id("order of judging", prompt))
    return [of_prompt[prompt] for prompt in chance]
