"""The completions of one contestant on held-out prompts: made shard by shard, kept, reused."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from evals.models.checkpoints import ModelSource
from evals.models.contenders import ServedModel
from evals.models.samplers import Sampler
from schemas.ids import canonical_messages, seed_from
from schemas.parquet import write_table
from schemas.stage import StageContext
from schemas.tables import COMPLETIONS, PROMPTS, REJECTS
from schemas.validation import rows_to_arrow
from stages.evaluate.config import EvaluateConfig
from stages.evaluate.contestants import Contestant
from stages.shards.executor import work_off
from stages.shards.job import Counts
from stages.shards.kept import KeptWork
from stages.shards.results import Results
from stages.shards.sampling import TABLES, SampleJob, SampleWorker
from stages.shards.work_file import WorkFile

Row = dict[str, Any]

SERVED_PROMPTS = 64
"""Prompts between two checkpoints where each completion is paid for."""


class Completions:
    """The completions of one contestant, as far as they are made."""

    def __init__(
        self,
        model: Contestant,
        prompts: Sequence[Row],
        config: EvaluateConfig,
        context: StageContext,
        kept: KeptWork,
    ) -> None:
        """`kept` holds the work: of the same model, prompts and settings nothing is made again."""
        self.name = model.name
        self.prompts = prompts
        self.n = config.n
        self.table = f"{COMPLETIONS.name}_{model.name}"
        self._model = model
        self._config = config
        self._context = context
        served = isinstance(model.source, ServedModel)
        size = min(config.shard_size, SERVED_PROMPTS if served else config.shard_size)
        self._cut = [prompts[start : start + size] for start in range(0, len(prompts), size)]
        piece = kept.piece(
            COMPLETIONS.name,
            model.writes_as,
            config.sampler.model_dump_json(),
            config.settings.model_dump_json(),
            f"{config.n} of {size}",
            *(f"{_lineage(row)} {canonical_messages(row['prompt'])}" for row in prompts),
        )
        self._work = WorkFile(piece.resolve() / "work.parquet")
        self._results = Results(piece, TABLES)

    @property
    def missing(self) -> list[int]:
        """The shards that are not made yet."""
        done = self._results.done()
        return [shard for shard in range(len(self._cut)) if shard not in done]

    def sample(self, sampler: Sampler | None = None) -> None:
        """Make what is missing: by `sampler`, or on a cluster."""
        source = self._model.source
        missing = self.missing
        if not missing or not isinstance(source, ModelSource | ServedModel):
            return
        if not self._work.is_sound:
            self._work.write(PROMPTS, (rows_to_arrow(PROMPTS, part) for part in self._cut))
        job = SampleJob(
            self._config.sampler,
            source,
            self._config.settings,
            # Models draw independently: their seeds differ.
            seed_from(self._config.seed, "evaluate", self.name),
            self.n,
            self._context.runtime,
            self._work.path,
            self.table,
        )
        total = len(self.prompts) * self.n
        with self._context.progress.task(f"{self.name} completions", total, "completions") as task:

            def advance(counts: Counts) -> None:
                task.advance(counts["completions"] + counts["rejects"])

            for shard in self._results.done():
                advance(self._results.counts(shard))
            opened = SampleWorker(job, sampler) if sampler else None
            work_off(job, missing, self._context.runtime, advance, opened)

    def take(self, rows: Sequence[Row], rejects: Sequence[Row]) -> None:
        """Keep completions that were written elsewhere, and what there is none of."""
        made = {COMPLETIONS.name: rows, REJECTS.name: rejects}
        self._cut = [list(self.prompts)]
        self._results.write(0, made, {"completions": len(rows), "rejects": len(rejects)})

    @cached_property
    def rows(self) -> list[Row]:
        """All completions, by prompt and sample number; only when nothing is missing."""
        found = self._all(COMPLETIONS.name)
        return sorted(found, key=lambda row: (row["prompt_id"], row["sample_index"]))

    @property
    def rejects(self) -> list[Row]:
        """What there is no completion of, and why."""
        return self._all(REJECTS.name)

    def _all(self, name: str) -> list[Row]:
        [table] = [table for table in TABLES if table.name == name]
        shards = range(len(self._cut))
        return [row for shard in shards for row in self._results.rows(shard, table)]

    def write(self) -> None:
        """Write the table of all completions."""
        self.forget_work()
        write_table(self._context.output / f"{self.table}.parquet", COMPLETIONS, self.rows)

    def forget_work(self) -> None:
        """Delete what all completions were made from: nothing asks for it any more."""
        self._work.remove()


def _lineage(row: Row) -> str:
    """What a row of prompts says beside its turns."""
    return repr(sorted((name, value) for name, value in row.items() if name != "prompt"))
