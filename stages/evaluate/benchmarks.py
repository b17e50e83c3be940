"""The tasks of an evaluation: each run once per model, kept while the stage goes on."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.measures import paired_difference
from stages.evaluate.models import Contender, Role

if TYPE_CHECKING:
    from inspect_ai.model import Model

    from evals.benchmarks import BenchmarkRun
    from evals.models.samplers import Sampler
    from schemas.stage import StageContext
    from stages.evaluate import EvaluateConfig

_NO_NUMBERS = ("scorer", "metric", "value", "standard_error", "ci_low", "ci_high")


class Benchmarks:
    """The tasks of both models; finished ones survive a kill in `benchmarks.shards/`."""

    def __init__(self, config: "EvaluateConfig", context: "StageContext") -> None:
        self._config = config
        self._context = context
        self._shards = context.output / "benchmarks.shards"
        self._failed: dict[tuple[Role, str], BenchmarkRun] = {}

    def missing(self, role: Role) -> list[str]:
        """Tasks that have not been run to their end."""
        return [task for task in self._config.tasks if not self._shard(role, task).exists()]

    def run(self, contender: Contender, sampler: "Sampler") -> None:
        """Run the missing tasks of one model; a failure is a warning, and the next task's turn."""
        missing = self.missing(contender.role)
        if not missing:
            return
        title = f"{contender.role} benchmarks"
        with self._context.progress.task(title, len(missing), "tasks") as progress:
            for task in missing:
                # A model of its own for each: seeds do not depend on the tasks before it.
                self._run_one(contender, task, _model(contender, sampler, self._config))
                progress.advance()

    def _run_one(self, contender: Contender, task: str, model: "Model") -> None:
        from evals.benchmarks import run_benchmark

        log = self._log(contender.role, task)
        log.unlink(missing_ok=True)
        run = run_benchmark(
            task,
            model,
            prompts=self._context.input("ingest", "prompts.parquet"),
            log=log,
            epochs=self._config.epochs,
            limit=self._config.limit,
            metadata={"role": contender.role, "fingerprint": contender.fingerprint},
        )
        if run.error is None:
            write_json(self._shard(contender.role, task), run.to_json())
        else:
            self._failed[contender.role, task] = run
            self._context.progress.warn(f"{contender.role}: task {task}: {run.error}")

    def merge(self, contenders: Mapping[Role, Contender]) -> dict[str, Any]:
        """Write benchmarks.json, remove the shards, and return what was written."""
        runs = {(r, t): self._result(r, t) for t in self._config.tasks for r in contenders}
        result = {
            "tasks": [
                entry
                for (role, task), run in runs.items()
                for entry in self._entries(contenders[role], task, run)
            ],
            "paired": [
                entry
                for task in self._config.tasks
                for entry in paired_entries(task, runs["policy", task], runs["baseline", task])
            ],
        }
        write_json(self._context.output / "benchmarks.json", result)
        shutil.rmtree(self._shards, ignore_errors=True)
        return result

    def _result(self, role: Role, task: str) -> "BenchmarkRun":
        from evals.benchmarks import BenchmarkRun

        failed = self._failed.get((role, task))
        return failed or BenchmarkRun.from_json(json.loads(self._shard(role, task).read_bytes()))

    def _entries(
        self, contender: Contender, task: str, run: "BenchmarkRun"
    ) -> Iterator[dict[str, Any]]:
        log = self._log(contender.role, task)
        about = {"task": task, "model": contender.role}
        rest = {
            "n_truncated": run.n_truncated,
            "fingerprint": contender.fingerprint,
            "log": str(log.relative_to(self._context.output)) if log.exists() else None,
            "error": run.error,
        }
        if run.error is not None:
            yield about | dict.fromkeys(_NO_NUMBERS) | {"n": 0, "n_unscored": 0} | rest
        for measured in run.measured:
            named = {"scorer": measured.scorer, "metric": measured.metric}
            unscored = {"n_unscored": measured.n_unscored}
            yield about | named | measured.numbers() | unscored | rest

    def _shard(self, role: Role, task: str) -> Path:
        return self._shards / f"{role}-{_slug(task)}.json"

    def _log(self, role: Role, task: str) -> Path:
        return self._context.output / "logs" / f"{role}-{_slug(task)}.eval"


def paired_entries(
    task: str, policy: "BenchmarkRun", baseline: "BenchmarkRun"
) -> Iterator[dict[str, Any]]:
    """Policy minus baseline for each measure that both have scores per sample of."""
    of_baseline = {(m.scorer, m.metric): m.scores for m in baseline.measured}
    for measured in policy.measured:
        other = of_baseline.get((measured.scorer, measured.metric), {})
        difference = paired_difference(measured.scores, other)
        if difference is not None:
            numbers = difference.to_json()
            yield {
                "task": task,
                "scorer": measured.scorer,
                "metric": measured.metric,
                "difference": numbers.pop("value"),
                **numbers,
            }


def _model(contender: Contender, sampler: "Sampler", config: "EvaluateConfig") -> "Model":
    from evals.models.checkpoints import load_tokenizer
    from evals.models.rendering import ChatRenderer
    from evals.provider import local_model

    renderer = ChatRenderer(load_tokenizer(contender.source))
    return local_model(
        contender.role, sampler, config.settings, lambda prompt: len(renderer.prompt_ids(prompt))
    )


def _slug(task: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", task).strip("-.")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all; a number that is not finite is a bug and raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.with_name(path.name + ".writing")
    writing.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")
    os.replace(writing, path)
