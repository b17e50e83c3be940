"""Judging in both orders, into the VERDICTS table and back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evals.judges.interface import Judge
from schemas.labels import (
    BOTH_ORDERS,
    Comparison,
    LabelProbabilities,
    Order,
    Unscored,
    Verdict,
)
from schemas.parquet import ShardedTable, read_rows
from schemas.stage import Progress
from schemas.tables import VERDICTS

SHARD_COMPARISONS = 256
"""Comparisons that a killed run loses at most."""


def judge_in_order(
    judge: Judge, comparisons: Sequence[Comparison], order: Order
) -> list[dict[str, Any]]:
    """Judge comparisons in one order; rows of VERDICTS.

    Whatever the order shown, the probabilities and the verdict speak of the comparison's own A
    and B.
    """
    swapped = order is Order.BA
    verdicts = judge.judge([c.swap() if swapped else c for c in comparisons])
    return [
        _row(judge, comparison, order, _swap(verdict) if swapped else verdict)
        for comparison, verdict in zip(comparisons, verdicts, strict=True)
    ]


def judge_both_orders(
    judge: Judge,
    comparisons: Sequence[Comparison],
    verdicts: ShardedTable,
    progress: Progress,
    title: str,
) -> None:
    """Judge what `verdicts` does not hold yet, in both orders, one finished shard after another.

    Shards hold the same comparisons whether or not the work was interrupted, so the table that
    `verdicts` merges to is the same to the last bit. The comparisons' ids must be unique.
    """
    done = verdicts.done("comparison_id", "judge")
    todo = [c for c in comparisons if (c.comparison_id, judge.name) not in done]
    with progress.task(title, len(comparisons), "comparisons") as task:
        task.advance(len(comparisons) - len(todo))
        for shard in _shards(todo):
            verdicts.append(
                row for order in BOTH_ORDERS for row in judge_in_order(judge, shard, order)
            )
            task.advance(len(shard))


def judge_to_table(
    judge: Judge, comparisons: Sequence[Comparison], directory: Path, progress: Progress, title: str
) -> list[dict[str, Any]]:
    """Judge in both orders into `directory`/verdicts.parquet, resuming; returns its rows.

    Rows are sorted by the table's key.
    """
    verdicts = ShardedTable(directory, VERDICTS)
    judge_both_orders(judge, comparisons, verdicts, progress, title)
    verdicts.merge(VERDICTS.key)
    return read_rows(verdicts.path, VERDICTS)


def _shards(comparisons: Sequence[Comparison]) -> Iterator[Sequence[Comparison]]:
    for start in range(0, len(comparisons), SHARD_COMPARISONS):
        yield comparisons[start : start + SHARD_COMPARISONS]


def _swap(verdict: Verdict) -> Verdict:
    return verdict if isinstance(verdict, Unscored) else verdict.swap()


def _row(judge: Judge, comparison: Comparison, order: Order, verdict: Verdict) -> dict[str, Any]:
    row: dict[str, Any] = {
        "comparison_id": comparison.comparison_id,
        "prompt_id": comparison.prompt_id,
        "judge": judge.name,
        "judge_fingerprint": judge.fingerprint,
        "order": order.value,
        **dict.fromkeys(("p_a", "p_b", "p_tie", "label_mass", "verdict")),
        "unscored_reason": None,
        "unscored_detail": None,
        "raw": "",
        "prompt_tokens": None,
        "completion_tokens": None,
    }
    if isinstance(verdict, Unscored):
        return row | {"unscored_reason": verdict.reason, "unscored_detail": verdict.detail}
    return row | asdict(verdict) | {"verdict": verdict.preference.value}


def verdict_of(row: Mapping[str, Any]) -> Verdict:
    """The verdict that a row of VERDICTS holds, about the comparison's own A and B."""
    if row["verdict"] is None:
        return Unscored(row["unscored_reason"], row["unscored_detail"] or "")
    return LabelProbabilities(
        p_a=row["p_a"], p_b=row["p_b"], p_tie=row["p_tie"], label_mass=row["label_mass"]
    )
