"""One shard of prompts: their completions compared, and paired as far as the judge stands by it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from evals.judges import Judge, open_judge
from evals.judges.first_look import drawn_first, refuse_silent
from evals.judges.interface import release
from evals.judges.layout import comparisons_neutralised
from evals.judges.orders import judged_in_both_orders, verdict_of
from evals.judges.progress import spending_counts
from evals.judges.ratings.charging import charged_once, ratings_counts, reference_counts
from evals.pulse import scaled
from schemas.labels import Order
from schemas.parquet import rows_of
from schemas.stage import Runtime
from schemas.tables import COMPARISONS, PREFERENCE_PAIRS, REJECTS, VERDICTS
from stages.label.candidates import PromptCandidates, by_prompt
from stages.label.config import LabelConfig
from stages.label.rows import comparison_row, drop_row, pair_row, prompt_drop_row
from stages.label.selection import (
    Drop,
    Judged,
    all_pairs,
    best_vs_mean,
    best_vs_random,
    best_vs_worst,
)
from stages.shards.job import Counts
from stages.shards.judging import failed_counts
from stages.shards.results import Results
from stages.shards.work_file import WorkFile

Row = dict[str, Any]

TABLES = (VERDICTS, COMPARISONS, PREFERENCE_PAIRS, REJECTS)
_SELECTIONS = {
    "best_vs_worst": best_vs_worst,
    "best_vs_random": best_vs_random,
    "best_vs_mean": best_vs_mean,
    "all_pairs": all_pairs,
}


@dataclass(frozen=True)
class LabelJob:
    """Everything that a worker needs to know; it can be sent to another machine."""

    config: LabelConfig
    judge: Path
    runtime: Runtime
    work_file: Path

    def open(self) -> "LabelWorker":
        """Load the judge. Raises what `open_judge` raises."""
        return LabelWorker(self, open_judge(self.judge, self.runtime))


class LabelWorker:
    """A loaded judge."""

    def __init__(self, job: LabelJob, judge: Judge) -> None:
        self._config = job.config
        self._judge = judge
        self._work = WorkFile(job.work_file)
        self._results = Results(job.work_file.parent, TABLES)
        self._looked_at = False

    def work(self, shard: int) -> Counts:
        """Judge every two completions of the shard's prompts, and keep what came of them."""
        completions: list[Row] = rows_of(self._work.read(shard))
        prompts = list(by_prompt(completions, self._config.truncated))
        verdicts = self._verdicts(prompts, len(completions))
        rows: dict[str, list[Row]] = {table.name: [] for table in TABLES}
        for prompt, found in zip(prompts, verdicts, strict=True):
            for table, made in self._of_prompt(prompt, found):
                rows[table].extend(made)
        counts = _counts(completions, prompts, rows)
        counts |= spending_counts(self._judge, rows[VERDICTS.name])
        counts |= ratings_counts(rows[VERDICTS.name])
        counts |= failed_counts(rows[VERDICTS.name])
        counts |= reference_counts(rows[VERDICTS.name])
        asked = (c.comparison for prompt in prompts for c in prompt.candidates)
        counts |= comparisons_neutralised(self._judge, asked)
        self._results.write(shard, rows, counts, getattr(self._judge, "warnings", ()))
        return counts

    def close(self) -> None:
        """Let go of the judge's engine."""
        release(self._judge)

    def _verdicts(self, prompts: Sequence[PromptCandidates], completions: int) -> list[list[Row]]:
        """Rows of VERDICTS by prompt, of so many completions, each prompt's sorted by key.

        The judge is asked once.
        """
        comparisons = [c.comparison for prompt in prompts for c in prompt.candidates]
        judged: dict[str, list[Row]] = {prompt.row["prompt_id"]: [] for prompt in prompts}
        first = drawn_first(comparisons) if not self._looked_at else []
        drawn = {comparison.comparison_id for comparison in first}
        rest = [c for c in comparisons if c.comparison_id not in drawn]
        # Progress is shown in completions, and the judge tells of comparisons.
        with scaled(completions / max(1, len(comparisons))):
            found = list(judged_in_both_orders(self._judge, first))
            refuse_silent(self._judge, [row for rows in found for row in rows], first)
            self._looked_at = self._looked_at or bool(first)
            for rows in chain(found, judged_in_both_orders(self._judge, rest)):
                judged[rows[0]["prompt_id"]].extend(rows)
        return [charged_once(_sorted(rows, *VERDICTS.key)) for rows in judged.values()]

    def _of_prompt(
        self, prompt: PromptCandidates, verdicts: list[Row]
    ) -> Iterator[tuple[str, list[Row]]]:
        """The rows of every table that one prompt makes, sorted by key."""
        yield VERDICTS.name, verdicts
        if prompt.reason is not None:
            yield REJECTS.name, [prompt_drop_row(prompt)]
            return
        judged = _judged(prompt, verdicts, self._config.min_margin)
        outcomes = _SELECTIONS[self._config.pairs](judged, self._config.truncated)
        name = self._judge.name
        yield COMPARISONS.name, _sorted([comparison_row(j, name) for j in judged], "comparison_id")
        pairs = [pair_row(o, name) for o in outcomes if isinstance(o, Judged)]
        yield PREFERENCE_PAIRS.name, _sorted(pairs, "pair_id")
        yield REJECTS.name, _sorted([drop_row(o) for o in outcomes if isinstance(o, Drop)], "raw")


def _judged(
    prompt: PromptCandidates, rows: Sequence[Mapping[str, Any]], min_margin: float
) -> list[Judged]:
    """What the judge said of a prompt's candidates, in their order."""
    verdicts = {(r["comparison_id"], Order(r["order"])): verdict_of(r) for r in rows}
    return [
        Judged.of(
            candidate,
            {order: verdicts[candidate.comparison.comparison_id, order] for order in Order},
            min_margin,
        )
        for candidate in prompt.candidates
    ]


def _sorted(rows: list[Row], *key: str) -> list[Row]:
    return sorted(rows, key=lambda row: tuple(row[name] for name in key))


def _counts(
    completions: Sequence[Row], prompts: Sequence[PromptCandidates], rows: Mapping[str, list[Row]]
) -> dict[str, int]:
    pairs, rejects = rows[PREFERENCE_PAIRS.name], rows[REJECTS.name]
    reasons = Counter(f"rejected_{reject['reason']}" for reject in rejects)
    return {
        "completions": len(completions),
        "completions_repeated": sum(p.repeated for p in prompts),
        "completions_truncated_dropped": sum(p.truncated for p in prompts),
        "completions_cut_in_thought": sum(p.unanswered for p in prompts),
        "prompts": len(prompts),
        "comparisons": sum(len(p.candidates) for p in prompts),
        "verdicts": len(rows[VERDICTS.name]),
        "unscored": sum(row["verdict"] is None for row in rows[VERDICTS.name]),
        "candidates": len(pairs) + len(rejects),
        "pairs": len(pairs),
        "pairs_train": sum(r["split"] == "train" for r in pairs),
        "pairs_dev": sum(r["split"] == "dev" for r in pairs),
        **dict(sorted(reasons.items())),
    }
