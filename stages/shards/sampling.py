"""One shard of prompts: their completions, and why some have none."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.models.checkpoints import ModelSource
from evals.models.contenders import ServedModel
from evals.models.samplers import (
    SampledCompletion,
    Sampler,
    SamplerConfig,
    SamplingSettings,
    Unsampled,
    open_sampler,
)
from evals.models.samplers.rows import completion_row, request_for
from schemas.conversations import is_cut_in_thought
from schemas.parquet import rows_of
from schemas.stage import Runtime
from schemas.tables import COMPLETIONS, REJECTS
from stages.shards.job import Counts
from stages.shards.results import Results
from stages.shards.work_file import WorkFile

Row = dict[str, Any]

TABLES = (COMPLETIONS, REJECTS)


@dataclass(frozen=True)
class SampleJob:
    """Everything that a worker needs to know; it can be sent to another machine.

    `seed` is that of the draws, `n` the completions of each prompt, `table` what rejects are of.
    """

    sampler: SamplerConfig
    model: ModelSource | ServedModel
    settings: SamplingSettings
    seed: int
    n: int
    runtime: Runtime
    work_file: Path
    table: str = COMPLETIONS.name

    def open(self) -> "SampleWorker":
        """Load the model into its engine. Raises what `open_sampler` raises."""
        return SampleWorker(self, open_sampler(self.sampler, self.model, self.runtime))


class SampleWorker:
    """A loaded model."""

    def __init__(self, job: SampleJob, sampler: Sampler) -> None:
        self._job = job
        self._sampler = sampler
        self._work = WorkFile(job.work_file)
        self._results = Results(job.work_file.parent, TABLES)

    def work(self, shard: int) -> Counts:
        """Sample the prompts of one shard, and keep what came of them."""
        prompts = rows_of(self._work.read(shard))
        wanted = [(prompt, index) for prompt in prompts for index in range(self._job.n)]
        kept, dropped, found = self._sample(wanted)
        counts = {
            "prompts": len(prompts),
            "completions": len(kept),
            "rejects": len(dropped),
            "finish_stop": sum(row["finish_reason"] == "stop" for row in kept),
            "finish_length": sum(row["finish_reason"] == "length" for row in kept),
            **found,
            "completion_tokens": sum(row["num_tokens"] or 0 for row in kept),
        }
        self._results.write(shard, {COMPLETIONS.name: kept, REJECTS.name: dropped}, counts)
        return counts

    def close(self) -> None:
        """Let go of the engine."""
        self._sampler.close()

    def _sample(self, wanted: Sequence[tuple[Row, int]]) -> tuple[list[Row], list[Row], Counts]:
        """Rows of the completions and of the rejects table, and what else was found."""
        settings = self._job.settings
        requests = [request_for(prompt, index, self._job.seed) for prompt, index in wanted]
        answers = self._sampler.sample(requests, settings)
        kept, dropped = [], []
        for (prompt, index), request, answer in zip(wanted, requests, answers, strict=True):
            if isinstance(answer, SampledCompletion):
                kept.append(completion_row(prompt, index, request, answer, self._sampler, settings))
            else:
                dropped.append(reject_row(self._job.table, prompt, index, request.seed, answer))
        made = [
            (prompt["prompt_id"], answer)
            for (prompt, _), answer in zip(wanted, answers, strict=True)
            if isinstance(answer, SampledCompletion)
        ]
        found = {
            "cut_in_thought": sum(
                is_cut_in_thought([answer.message], answer.finish_reason) for _, answer in made
            ),
            "prompts_neutralised": len({key for key, answer in made if answer.neutralised}),
        }
        return kept, dropped, found


def reject_row(
    table: str, prompt: Mapping[str, Any], index: int, seed: int | None, why: Unsampled
) -> Row:
    """A row of the rejects table for a completion that there is none of."""
    raw = {
        "prompt_id": prompt["prompt_id"],
        "sample_index": index,
        "seed": seed,
        "prompt": prompt["prompt"],
    }
    return {
        "table": table,
        "reason": why.reason,
        "detail": why.detail,
        "file": prompt["file"],
        "row": prompt["row"],
        "raw": json.dumps(raw, ensure_ascii=False),
    }
