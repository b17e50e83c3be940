"""The tasks of an evaluation: each run once per model, kept while the stage goes on.

Importing this module imports inspect_ai (3 s).
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from inspect_ai.model import Model, get_model

from evals.benchmarks.logprob_model import CompletionScorer
from evals.benchmarks.provider import CountTokens, local_model
from evals.benchmarks.run import BenchmarkRun, run_benchmark, unaware_of_notebooks
from evals.benchmarks.tasks import TASKS
from evals.judges import JUDGE_FILE
from evals.models.checkpoints import ModelSource, load_tokenizer
from evals.models.contenders import contender_fingerprint
from evals.models.rendering import ChatRenderer
from evals.models.samplers import Sampler
from schemas.errors import PipelineError
from schemas.files import is_sound, writing_file, writing_folder
from schemas.hashes import known_sha256
from schemas.labels import Messages
from schemas.results.base import read_result, write_result
from schemas.results.benchmarks import BenchmarkResults, PairedResult, TaskMeasures, TaskResult
from schemas.stage import StageContext
from schemas.tables import COMPLETIONS
from stages.evaluate.benchmark_entries import paired_entries, task_entries
from stages.evaluate.config import BASELINE, EvaluateConfig
from stages.evaluate.contestants import Contestant, reference
from stages.shards.kept import KeptWork

Asked = Literal["completions", "log_probabilities", "judge"]
JUDGE = "judge"
"""Who answers the tasks that measure the judge, who does them once; others are models' names."""
RUN, LOG = "run.json", "log.eval"


class Benchmarks:
    """The tasks of all models. Of the same model, task and settings nothing is run again."""

    def __init__(
        self,
        config: EvaluateConfig,
        context: StageContext,
        models: Sequence[Contestant],
        kept: KeptWork,
    ) -> None:
        """`kept` holds what is finished."""
        self._config = config
        self._context = context
        self._models = {model.name: model for model in models}
        self._kept = kept
        self._failed: dict[tuple[str, str], BenchmarkRun] = {}

    def missing(self, answers: str, asked: Asked = "completions") -> list[str]:
        """Tasks that have not been run to their end."""
        return [
            task
            for task in self._config.tasks
            if _asked(task) == asked and not self._is_done(answers, task)
        ]

    def run(self, model: Contestant, sampler: Sampler) -> None:
        """Run the missing tasks of one model; a failure is a warning, and the next task's turn."""
        # A model of its own for each: seeds do not depend on the tasks before it.
        self._run(model.name, lambda: {"model": self._writer(model, sampler)})

    def score(self, model: Contestant) -> None:
        """Run the missing tasks that ask one model, and its reference, for log-probabilities."""
        missing = self.missing(model.name, "log_probabilities") if model.can_run else []
        source = reference(self._config, self._context) if missing else None
        if missing and not (
            isinstance(model.source, ModelSource) and isinstance(source, ModelSource)
        ):
            for task in missing:
                why = f"{model.name} or its reference gives no log-probabilities"
                self._failed[model.name, task] = BenchmarkRun(error=why)
                self._context.progress.warn(f"{model.name}: task {task}: {why}")
        elif isinstance(model.source, ModelSource) and isinstance(source, ModelSource):
            mine = CompletionScorer(model.source, self._context.runtime)
            base = CompletionScorer(source, self._context.runtime)
            try:
                self._run(model.name, lambda: self._scorers(mine, base), "log_probabilities")
            finally:
                mine.close()
                base.close()

    def judge(self) -> None:
        """Run the missing tasks that measure the judge."""
        if self.missing(JUDGE, "judge"):
            self._run(JUDGE, lambda: {"model": get_model("none")}, "judge")

    def _run(self, answers: str, models: Any, asked: Asked = "completions") -> None:
        missing = self.missing(answers, asked)
        if not missing:
            return
        title = f"{answers} benchmarks"
        shown = self._context.progress.task(title, len(missing), "tasks")
        with unaware_of_notebooks(), shown as progress:
            for task in missing:
                self._run_one(answers, task, models())
                progress.advance()

    def _run_one(self, answers: str, task: str, models: Mapping[str, Model]) -> None:
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
            with writing_folder(self._piece(answers, task), sealed=True) as folder:
                write_result(folder / RUN, run)
                shutil.copyfile(log, folder / LOG)
        else:
            self._failed[answers, task] = run
            self._context.progress.warn(f"{answers}: task {task}: {run.error}")
            self._context.is_missing(f"{answers}: task {task}: {run.error}")

    def _args(self, task: str) -> dict[str, Any]:
        """What a task is called with: of ours what the run provides, and what the recipe says.

        Raises:
            MissingInputError: the recipe has no stage that provides it.
        """
        takes = TASKS[task].takes if task in TASKS else {}
        said = dict(self._config.task_args.get(task, {}))
        return {arg: str(self._provided(it)) for arg, it in takes.items() if arg not in said} | said

    def _provided(self, what: str) -> Path | str:
        if what == "split":
            return self._config.split
        if what == "baseline_completions":
            return self._context.output / f"{COMPLETIONS.name}_{BASELINE}.parquet"
        if what == "judge":
            return self._context.input("judge", JUDGE_FILE)
        return self._context.input("ingest", f"{what}.parquet")

    def _writer(self, model: Contestant, sampler: Sampler) -> Model:
        return local_model(model.name, sampler, self._config.settings, _counter(model))

    def _scorers(self, mine: CompletionScorer, base: CompletionScorer) -> dict[str, Model]:
        """The model and its reference; one and the same where their weights are."""
        one, other = self._scoring("scored", mine), self._scoring("reference", base)
        return {"model": one, "reference": one if mine.fingerprint == base.fingerprint else other}

    def _scoring(self, name: str, scorer: CompletionScorer) -> Model:
        def count(prompt: Messages) -> int:
            return len(scorer.renderer.prompt_ids(prompt))

        return local_model(name, scorer, self._config.settings, count)

    def write(self) -> BenchmarkResults:
        """Write benchmarks.json, all logs, and a file beside each log; what was written."""
        names = [model.name for model in self._models.values() if model.can_run]
        runs = {
            (answers, task): self._result(answers, task)
            for task in self._config.tasks
            for answers in ((JUDGE,) if _asked(task) == "judge" else _policy_first(names))
        }
        tasks: list[TaskResult] = []
        for (answers, task), run in runs.items():
            found = self._entries(answers, task, run)
            measures = self._log(answers, task).with_suffix(".json")
            write_result(measures, TaskMeasures(measured=found))
            tasks += found
        result = BenchmarkResults(tasks=tasks, paired=list(_paired(runs, self._config)))
        write_result(self._context.output / "benchmarks.json", result)
        return result

    def _result(self, answers: str, task: str) -> BenchmarkRun:
        if failed := self._failed.get((answers, task)):
            return failed
        piece, log = self._piece(answers, task), self._log(answers, task)
        if not log.exists():
            log.parent.mkdir(exist_ok=True)
            with writing_file(log) as temporary:
                shutil.copyfile(piece / LOG, temporary)
        return read_result(piece / RUN, BenchmarkRun)

    def _entries(self, answers: str, task: str, run: BenchmarkRun) -> list[TaskResult]:
        log, model = self._log(answers, task), self._models.get(answers)
        where = str(log.relative_to(self._context.output)) if log.exists() else None
        fingerprint = model.fingerprint if model else None
        about = TaskResult(task=task, model=answers, fingerprint=fingerprint, log=where)
        return list(task_entries(about, run))

    def _is_done(self, answers: str, task: str) -> bool:
        try:
            return is_sound(self._piece(answers, task))
        except PipelineError:  # something it needs is not there: it will say so itself
            return False

    def _piece(self, answers: str, task: str) -> Path:
        """Where a task's result is kept. Raises PipelineError where what it reads is not there."""
        model, own = self._models.get(answers), Path(task.partition("@")[0])
        whose = [model.writes_as if model else answers]
        if _asked(task) == "log_probabilities":
            whose.append(contender_fingerprint(reference(self._config, self._context)))
        arguments = {name: _content(value) for name, value in sorted(self._args(task).items())}
        return self._kept.piece(
            "benchmark",
            task,
            known_sha256(own) if own.is_file() else "",
            json.dumps(arguments, sort_keys=True),
            *whose,
            self._config.sampler.model_dump_json(),
            self._config.settings.model_dump_json(),
            f"{self._config.epochs} epochs of {self._config.limit}",
        )

    def _log(self, answers: str, task: str) -> Path:
        return self._context.output / "logs" / f"{answers}-{_slug(task)}.eval"


def _counter(model: Contestant) -> CountTokens:
    """Counts the tokens of a prompt; a quarter of its bytes where a server has the tokenizer."""
    if isinstance(model.source, ModelSource):
        renderer = ChatRenderer(load_tokenizer(model.source))
        return lambda prompt: len(renderer.prompt_ids(prompt))
    return lambda prompt: sum(len(turn["content"].encode()) for turn in prompt) // 4


def _policy_first(names: Sequence[str]) -> list[str]:
    return sorted(names, key=lambda name: name == BASELINE)


def _paired(
    runs: Mapping[tuple[str, str], BenchmarkRun], config: EvaluateConfig
) -> Iterator[PairedResult]:
    for (model, task), run in runs.items():
        if model not in (JUDGE, BASELINE) and (BASELINE, task) in runs:
            yield from paired_entries(task, model, run, runs[BASELINE, task], config.margin(task))


def _asked(task: str) -> Asked:
    return TASKS[task].asks if task in TASKS else "completions"


def _content(value: Any) -> Any:
    """What a task is told; of a file its content."""
    is_file = isinstance(value, str) and value and Path(value).is_file()
    return known_sha256(Path(value)) if is_file else value


def _slug(task: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", task).strip("-.")
