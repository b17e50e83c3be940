"""The tasks of an evaluation: each run once per model, kept while the stage goes on."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evals.judges import JUDGE_FILE
from schemas.errors import PipelineError
from schemas.files import write_json
from schemas.labels import Messages
from schemas.parquet import write_table
from schemas.tables import COMPLETIONS
from stages.evaluate.benchmark_entries import paired_entries, task_entries
from stages.evaluate.models import Contender, Role, reference

if TYPE_CHECKING:
    from inspect_ai.model import Model

    from evals.benchmarks.logprob_model import CompletionScorer
    from evals.benchmarks.run import BenchmarkRun
    from evals.models.samplers import Sampler
    from schemas.stage import StageContext
    from stages.evaluate.config import EvaluateConfig

Asked = Literal["completions", "log_probabilities", "judge"]
Answers = Literal["policy", "baseline", "judge"]
"""Who answers a task: one of the two models, or the judge, who does it once."""


class Benchmarks:
    """The tasks of both models; finished ones survive a kill in `benchmarks.shards/`."""

    def __init__(self, config: "EvaluateConfig", context: "StageContext") -> None:
        self._config = config
        self._context = context
        self._shards = context.output / "benchmarks.shards"
        self._baseline = self._shards / "baseline_completions.parquet"
        self._failed: dict[tuple[Answers, str], BenchmarkRun] = {}

    def missing(self, answers: Answers, asked: Asked = "completions") -> list[str]:
        """Tasks that have not been run to their end."""
        return [
            task
            for task in self._config.tasks
            if _asked(task) == asked and not self._shard(answers, task).exists()
        ]

    def keep_baseline(self, rows: Sequence[dict[str, Any]]) -> None:
        """Keep the baseline's completions for the tasks that compare with them."""
        if self._config.tasks:
            self._shards.mkdir(exist_ok=True)
            write_table(self._baseline, COMPLETIONS, rows)

    def run(self, contender: Contender, sampler: "Sampler") -> None:
        """Run the missing tasks of one model; a failure is a warning, and the next task's turn."""
        # A model of its own for each: seeds do not depend on the tasks before it.
        self._run(contender.role, lambda: {"model": self._writer(contender, sampler)})

    def score(self, contender: Contender) -> None:
        """Run the missing tasks that ask one model, and its reference, for log-probabilities."""
        if self.missing(contender.role, "log_probabilities"):
            from evals.benchmarks.logprob_model import CompletionScorer

            source = reference(self._config, self._context)
            mine = CompletionScorer(contender.source, self._context.runtime)
            base = CompletionScorer(source, self._context.runtime)
            try:
                self._run(contender.role, lambda: self._scorers(mine, base), "log_probabilities")
            finally:
                mine.close()
                base.close()

    def judge(self) -> None:
        """Run the missing tasks that measure the judge."""
        if self.missing("judge", "judge"):
            from inspect_ai.model import get_model

            self._run("judge", lambda: {"model": get_model("none")}, "judge")

    def _run(self, answers: Answers, models: Any, asked: Asked = "completions") -> None:
        missing = self.missing(answers, asked)
        if not missing:
            return
        title = f"{answers} benchmarks"
        with self._context.progress.task(title, len(missing), "tasks") as progress:
            for task in missing:
                self._run_one(answers, task, models())
                progress.advance()

    def _run_one(self, answers: Answers, task: str, models: "Mapping[str, Model]") -> None:
        from evals.benchmarks.run import BenchmarkRun, run_benchmark

        log = self._log(answers, task)
        log.unlink(missing_ok=True)
        try:
            run = run_benchmark(
                task,
                **models,
                args=self._args(task),
                log=log,
                epochs=self._config.epochs if _asked(task) == "completions" else 1,
                limit=self._config.limit,
                metadata={"role": answers},
            )
        except PipelineError as error:
            run = BenchmarkRun(error=str(error))
        if run.error is None:
            write_json(self._shard(answers, task), run.to_json())
        else:
            self._failed[answers, task] = run
            self._context.progress.warn(f"{answers}: task {task}: {run.error}")

    def _args(self, task: str) -> dict[str, Any]:
        """What a task is called with: of ours what the run provides, and what the recipe says.

        Raises:
            MissingInputError: the recipe has no stage that provides it.
        """
        from evals.benchmarks.tasks import TASKS

        takes = TASKS[task].takes if task in TASKS else {}
        said = dict(self._config.task_args.get(task, {}))
        return {arg: str(self._provided(it)) for arg, it in takes.items() if arg not in said} | said

    def _provided(self, what: str) -> Path | str:
        if what == "split":
            return self._config.split
        if what == "baseline_completions":
            return self._baseline
        if what == "judge":
            return self._context.input("judge", JUDGE_FILE)
        return self._context.input("ingest", f"{what}.parquet")

    def _writer(self, contender: Contender, sampler: "Sampler") -> "Model":
        from evals.benchmarks.provider import local_model
        from evals.models.checkpoints import load_tokenizer
        from evals.models.rendering import ChatRenderer

        renderer = ChatRenderer(load_tokenizer(contender.source))
        return local_model(
            contender.role,
            sampler,
            self._config.settings,
            lambda prompt: len(renderer.prompt_ids(prompt)),
        )

    def _scorers(self, mine: "CompletionScorer", base: "CompletionScorer") -> "dict[str, Model]":
        """The model and its reference; one and the same where their weights are."""
        one, other = self._scoring("scored", mine), self._scoring("reference", base)
        return {"model": one, "reference": one if mine.fingerprint == base.fingerprint else other}

    def _scoring(self, name: str, scorer: "CompletionScorer") -> "Model":
        from evals.benchmarks.provider import local_model

        def count(prompt: Messages) -> int:
            return len(scorer.renderer.prompt_ids(prompt))

        return local_model(name, scorer, self._config.settings, count)

    def merge(self, contenders: Mapping[Role, Contender]) -> dict[str, Any]:
        """Write benchmarks.json and a file beside each log, remove the shards; what was written."""
        runs = {(a, t): self._result(a, t) for t in self._config.tasks for a in _answering(t)}
        fingerprints: dict[str, str] = {role: c.fingerprint for role, c in contenders.items()}
        entries = {
            (answers, task): self._entries(answers, fingerprints.get(answers), task, run)
            for (answers, task), run in runs.items()
        }
        for (answers, task), found in entries.items():
            write_json(self._log(answers, task).with_suffix(".json"), {"measured": found})
        result = {
            "tasks": [entry for found in entries.values() for entry in found],
            "paired": [
                entry
                for task in self._config.tasks
                if ("policy", task) in runs
                for entry in paired_entries(task, runs["policy", task], runs["baseline", task])
            ],
        }
        write_json(self._context.output / "benchmarks.json", result)
        self._context.discard(self._shards)
        return result

    def _result(self, answers: Answers, task: str) -> "BenchmarkRun":
        from evals.benchmarks.run import BenchmarkRun

        failed = self._failed.get((answers, task))
        return failed or BenchmarkRun.from_json(json.loads(self._shard(answers, task).read_bytes()))

    def _entries(
        self, answers: Answers, fingerprint: str | None, task: str, run: "BenchmarkRun"
    ) -> list[dict[str, Any]]:
        log = self._log(answers, task)
        where = str(log.relative_to(self._context.output)) if log.exists() else None
        about = {"task": task, "model": answers}
        return list(task_entries(about, run, {"fingerprint": fingerprint, "log": where}))

    def _shard(self, answers: Answers, task: str) -> Path:
        return self._shards / f"{answers}-{_slug(task)}.json"

    def _log(self, answers: Answers, task: str) -> Path:
        return self._context.output / "logs" / f"{answers}-{_slug(task)}.eval"


def _asked(task: str) -> Asked:
    from evals.benchmarks.tasks import TASKS

    return TASKS[task].asks if task in TASKS else "completions"


def _answering(task: str) -> tuple[Answers, ...]:
    return ("judge",) if _asked(task) == "judge" else ("policy", "baseline")


def _slug(task: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", task).strip("-.")
