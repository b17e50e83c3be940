"""What a person sees while a judge works: how fast, how much of it fails, and what it costs."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evals.judges.interface import Judge, StreamingJudge
from schemas.stage import Task

_SECONDS_BETWEEN = 2.0


class JudgingWatch:
    """Counts verdicts as they pass, and shows the numbers every few seconds."""

    def __init__(self, judge: Judge, task: Task) -> None:
        """`task` is the line of progress."""
        self._judge = judge
        self._task = task
        self._verdicts = 0
        self._unscored = 0
        self._tokens = 0
        self._started = self._shown = time.monotonic()

    def seen(self, judged: Iterator[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
        """Pass the rows of each comparison on, and count them."""
        for rows in judged:
            self._count(rows)
            yield rows

    def show(self) -> None:
        """Show the numbers now."""
        self._shown = time.monotonic()
        if not self._verdicts:
            return
        seconds = max(1e-9, self._shown - self._started)
        usage: Mapping[str, float] = getattr(self._judge, "usage", {})
        self._task.metrics(
            {
                "verdicts_per_second": self._verdicts / seconds,
                "unscored": self._unscored,
                "tokens": self._tokens,
                **{k: usage[k] for k in ("cost", "in_flight_limit") if usage.get(k)},
            }
        )

    def _count(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._verdicts += len(rows)
        self._unscored += sum(row["verdict"] is None for row in rows)
        self._tokens += sum(
            (row["prompt_tokens"] or 0) + (row["completion_tokens"] or 0) for row in rows
        )
        self._task.advance()
        if time.monotonic() - self._shown >= _SECONDS_BETWEEN:
            self.show()


def spending_counts(judge: Judge, rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """For a manifest: what rows of VERDICTS took of a judge that is paid for; else nothing.

    Costs are in millionths of the prices' unit.
    """
    if not isinstance(judge, StreamingJudge):
        return {}
    read = sum(row["prompt_tokens"] or 0 for row in rows)
    written = sum(row["completion_tokens"] or 0 for row in rows)
    return {
        "judge_prompt_tokens": read,
        "judge_completion_tokens": written,
        "judge_cost_millionths": round(judge.cost(read, written) * 1e6),
    }
