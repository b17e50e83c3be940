"""Verdicts in both orders on any number of comparisons, one shard of them at a time."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from evals.judges.first_look import FEWEST_COMPARISONS, drawn_first, refuse_silent
from evals.judges.interface import Judge, StreamingJudge, release
from evals.judges.orders import SHARD_COMPARISONS, is_failed_call, judged_in_both_orders
from evals.judges.progress import JudgingWatch, spending_counts
from evals.judges.ratings.charging import charged_once
from schemas.ids import content_id
from schemas.labels import Comparison
from schemas.parquet import rows_of
from schemas.stage import StageContext
from schemas.tables import COMPARISONS, VERDICTS, Table
from schemas.validation import rows_to_arrow
from stages.shards.executor import work_off
from stages.shards.job import Counts
from stages.shards.kept import KeptWork
from stages.shards.results import Results
from stages.shards.work_file import WorkFile

Row = dict[str, Any]

# What a judge that is asked one by one has answered outlives a kill: its stream need not end often.
STREAMED_COMPARISONS = 8 * SHARD_COMPARISONS

_SHOWN = ("comparison_id", "prompt_id", "prompt", "completion_a", "completion_b", "reference")
ASKED = Table("asked", pa.schema([COMPARISONS.schema.field(name) for name in _SHOWN]))
"""What a judge is shown."""


@dataclass(frozen=True)
class JudgeJob:
    """How a judge is opened, and where the comparisons are; it can be sent to another machine."""

    opens: Callable[[], Judge]
    work_file: Path

    def open(self) -> "JudgeWorker":
        """Open the judge. Raises what opening it raises."""
        return JudgeWorker(self.opens(), self.work_file)


def _unwatched(judged: Iterator[list[Row]]) -> Iterator[list[Row]]:
    return judged


class JudgeWorker:
    """An open judge."""

    def __init__(
        self,
        judge: Judge,
        work_file: Path,
        watched: Callable[[Iterator[list[Row]]], Iterator[list[Row]]] = _unwatched,
    ) -> None:
        """`watched` passes the rows of each comparison on, and may count them."""
        self._judge = judge
        self._work = WorkFile(work_file)
        self._results = Results(work_file.parent, (VERDICTS,))
        self._watched = watched

    def work(self, shard: int) -> Counts:
        """Judge one shard. Raises BackendError where a judge scores nearly none of the first."""
        shown = [Comparison(**row) for row in rows_of(self._work.read(shard))]
        judged = self._watched(judged_in_both_orders(self._judge, shown))
        rows = [row for both in judged for row in both]
        if shard == 0 and len(shown) >= FEWEST_COMPARISONS:
            refuse_silent(self._judge, rows, shown)
        counts = {"comparisons": len(shown), "verdicts": len(rows)}
        counts |= spending_counts(self._judge, rows)
        warnings = getattr(self._judge, "warnings", ())
        self._results.write(shard, {VERDICTS.name: _sorted(rows)}, counts, warnings)
        return counts

    def close(self) -> None:
        """Let go of the judge's engine."""
        release(self._judge)


def judge_all(
    judge: Judge,
    opens: Callable[[], Judge],
    comparisons: Iterable[Comparison],
    kept: KeptWork,
    context: StageContext,
    title: str,
) -> list[Row]:
    """Rows of VERDICTS of all comparisons in both orders, sorted by the table's key.

    What is finished is not asked again, but for calls that failed. Some comparisons are drawn at
    random and judged first.

    Args:
        judge: does the work of this process.
        opens: opens the same judge elsewhere.
        comparisons: what it is shown; their ids must be unique.
        kept: holds the work, of any number of judges.
        context: of the stage.
        title: of the progress.

    Raises:
        BackendError: the judge scores nearly none of the first.
    """
    shards = _in_shards(judge, list(comparisons))
    if not shards:
        return []
    ids = [_identity(comparison) for shard in shards for comparison in shard]
    piece = kept.piece("verdicts", judge.name, judge.fingerprint, str(len(shards)), *ids)
    work = WorkFile(piece.resolve() / "work.parquet")
    if not work.is_sound:
        work.write(ASKED, (rows_to_arrow(ASKED, map(vars, shard)) for shard in shards))
    results = Results(work.path.parent, (VERDICTS,))
    for shard in results.done():
        if any(map(is_failed_call, results.rows(shard, VERDICTS))):
            results.forget(shard)
    _work_off(judge, JudgeJob(opens, work.path), results, len(ids), context, title)
    for warning in results.warnings():
        context.progress.warn(f"{judge.name}: {warning}")
    rows = (row for shard in range(len(shards)) for row in results.rows(shard, VERDICTS))
    return charged_once(_sorted(rows))


FAILED = "failed_calls/"
"""Begins the counts of verdicts that a server has failed to give, by reason."""


def failed_counts(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many verdicts failed for a reason that may pass; nothing where none did."""
    reasons = Counter(row["unscored_reason"] for row in rows if is_failed_call(row))
    return {f"{FAILED}{reason}": n for reason, n in sorted(reasons.items())}


def say_missing(judge: str, failed: Mapping[str, int], context: StageContext) -> None:
    """Put on record that calls have failed, so that the same command asks them again.

    Args:
        judge: its name.
        failed: as `failed_counts` gives them; other counts may stand beside them.
        context: of the stage.
    """
    found = {k.removeprefix(FAILED): n for k, n in failed.items() if k.startswith(FAILED) and n}
    if found:
        counted = ", ".join(f"{reason} {n}" for reason, n in sorted(found.items()))
        context.is_missing(f"{judge}: {sum(found.values())} verdicts: {counted}")


def _identity(comparison: Comparison) -> str:
    """What a judge is shown: of a comparison with another reference it may say something else."""
    if comparison.reference is None:
        return comparison.comparison_id
    return content_id("with reference", comparison.comparison_id, comparison.reference)


def _in_shards(judge: Judge, comparisons: Sequence[Comparison]) -> list[Sequence[Comparison]]:
    first = drawn_first(comparisons)
    drawn = {comparison.comparison_id for comparison in first}
    rest = [c for c in comparisons if c.comparison_id not in drawn]
    size = STREAMED_COMPARISONS if isinstance(judge, StreamingJudge) else SHARD_COMPARISONS
    parts = [rest[start : start + size] for start in range(0, len(rest), size)]
    return [first, *parts] if first else [*parts]


def _work_off(
    judge: Judge, job: JudgeJob, results: Results, total: int, context: StageContext, title: str
) -> None:
    done = results.done()
    missing = [shard for shard in range(len(WorkFile(job.work_file))) if shard not in done]
    with context.progress.task(title, total, "comparisons") as task:
        watch = JudgingWatch(judge, task)
        here = JudgeWorker(judge, job.work_file, watch.seen)

        def advance(counts: Counts) -> None:
            if context.runtime.engine == "ray":  # what is judged here is counted as it comes
                task.advance(counts["comparisons"])

        for shard in done:
            task.advance(results.counts(shard)["comparisons"])
        try:
            work_off(job, missing, context.runtime, advance, here)
            watch.show()
        finally:
            here.close()


def _sorted(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: tuple(row[name] for name in VERDICTS.key))
