"""Judging in both orders, into the VERDICTS table and back."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evals.judges.first_look import drawn_first, refuse_silent
from evals.judges.interface import Judge, StreamingJudge, release
from evals.judges.progress import JudgingWatch
from schemas.files import remove
from schemas.labels import (
    BOTH_ORDERS,
    Comparison,
    LabelProbabilities,
    Order,
    Unscored,
    Verdict,
)
from schemas.parquet import read_rows
from schemas.sharded import ShardedTable
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
    verdicts = judge.judge([_shown(comparison, order) for comparison in comparisons])
    return [_row(judge, c, order, v) for c, v in zip(comparisons, verdicts, strict=True)]


def judge_both_orders(
    judge: Judge,
    comparisons: Iterable[Comparison],
    verdicts: ShardedTable,
    progress: Progress,
    title: str,
) -> None:
    """Judge what `verdicts` does not hold yet, in both orders, one finished shard after another.

    Comparisons are taken as they are needed, and no more of them are held than a shard and what is
    under way. The shards of a judge that works in batches hold the same comparisons whether or not
    the work was interrupted, so the table that `verdicts` merges to is the same to the last bit.
    The comparisons' ids must be unique. Some of a list are drawn at random and judged first.

    Raises:
        BackendError: the judge scores nearly none of those.
    """
    done = verdicts.done("comparison_id", "judge")
    total = len(comparisons) if isinstance(comparisons, Sized) else None
    with progress.task(title, total, "comparisons") as task:
        watch = JudgingWatch(judge, task)

        first = drawn_first(comparisons) if isinstance(comparisons, Sequence) else []
        drawn = {comparison.comparison_id for comparison in first}

        def todo(some: Iterable[Comparison]) -> Iterator[Comparison]:
            for comparison in some:
                if (comparison.comparison_id, judge.name) in done:
                    task.advance()
                else:
                    yield comparison

        try:
            for rows in _shards(watch.seen(judged_in_both_orders(judge, todo(first)))):
                refuse_silent(judge, rows, first)
                verdicts.append(rows)
            rest = (c for c in comparisons if c.comparison_id not in drawn)
            for rows in _shards(watch.seen(judged_in_both_orders(judge, todo(rest)))):
                verdicts.append(rows)
            watch.show()
        finally:
            release(judge)
    for warning in getattr(judge, "warnings", ()):
        progress.warn(f"{judge.name}: {warning}")


def judge_to_table(
    judge: Judge, comparisons: Iterable[Comparison], directory: Path, progress: Progress, title: str
) -> list[dict[str, Any]]:
    """Judge in both orders into `directory`/verdicts.parquet, resuming; returns its rows.

    Rows are sorted by the table's key.
    """
    comparisons = list(comparisons)
    _drop_others(directory / VERDICTS.file_name, judge, comparisons)
    verdicts = ShardedTable(directory, VERDICTS)
    judge_both_orders(judge, comparisons, verdicts, progress, title)
    verdicts.merge(VERDICTS.key)
    return read_rows(verdicts.path, VERDICTS)


def _drop_others(path: Path, judge: Judge, comparisons: Sequence[Comparison]) -> None:
    """Remove a finished table that is not this judge's, or not of exactly these comparisons."""
    if not path.exists():
        return
    try:
        found = pq.read_table(path, columns=["comparison_id", "judge_fingerprint"])
    except (OSError, pa.ArrowInvalid):
        return remove(path)
    known = set(found["comparison_id"].to_pylist())
    wanted = {comparison.comparison_id for comparison in comparisons}
    if known != wanted or found["judge_fingerprint"].unique().to_pylist() != [judge.fingerprint]:
        remove(path)


Rows = list[dict[str, Any]]


def judged_in_both_orders(judge: Judge, comparisons: Iterable[Comparison]) -> Iterator[Rows]:
    """The two rows of VERDICTS of each comparison, once both orders are judged."""
    if isinstance(judge, StreamingJudge):
        yield from _streamed(judge, comparisons)
        return
    source = iter(comparisons)
    while batch := list(islice(source, SHARD_COMPARISONS)):
        # Both orders at once: what they have in common may then be read once.
        shown = [_shown(c, order) for order in BOTH_ORDERS for c in batch]
        found = judge.judge(shown)
        first, second = found[: len(batch)], found[len(batch) :]
        for comparison, *verdicts in zip(batch, first, second, strict=True):
            yield _both_rows(judge, comparison, verdicts)


def _streamed(judge: StreamingJudge, comparisons: Iterable[Comparison]) -> Iterator[Rows]:
    waiting: dict[int, tuple[Comparison, dict[Order, Verdict]]] = {}

    def shown() -> Iterator[Comparison]:
        for number, comparison in enumerate(comparisons):
            waiting[number] = (comparison, {})
            yield from (_shown(comparison, order) for order in BOTH_ORDERS)

    for number, verdict in judge.stream(shown()):
        place, which = divmod(number, len(BOTH_ORDERS))
        comparison, found = waiting[place]
        found[BOTH_ORDERS[which]] = verdict
        if len(found) == len(BOTH_ORDERS):
            del waiting[place]
            yield _both_rows(judge, comparison, [found[order] for order in BOTH_ORDERS])


def _both_rows(judge: Judge, comparison: Comparison, verdicts: Sequence[Verdict]) -> Rows:
    pairs = zip(BOTH_ORDERS, verdicts, strict=True)
    return [_row(judge, comparison, order, verdict) for order, verdict in pairs]


def _shards(judged: Iterator[Rows]) -> Iterator[Rows]:
    while shard := list(islice(judged, SHARD_COMPARISONS)):
        yield [row for rows in shard for row in rows]


def _shown(comparison: Comparison, order: Order) -> Comparison:
    return comparison.swap() if order is Order.BA else comparison


def _swap(verdict: Verdict) -> Verdict:
    return verdict if isinstance(verdict, Unscored) else verdict.swap()


def _row(judge: Judge, comparison: Comparison, order: Order, shown: Verdict) -> dict[str, Any]:
    verdict = _swap(shown) if order is Order.BA else shown
    row: dict[str, Any] = {
        "comparison_id": comparison.comparison_id,
        "prompt_id": comparison.prompt_id,
        "judge": judge.name,
        "judge_fingerprint": judge.fingerprint,
        "order": order.value,
        **dict.fromkeys(("p_a", "p_b", "p_tie", "label_mass", "verdict")),
        "unscored_reason": None,
        "unscored_detail": None,
        "raw": verdict.raw,
        "prompt_tokens": verdict.prompt_tokens,
        "completion_tokens": verdict.completion_tokens,
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
