"""evaluate: benchmarks of the policy and its baseline, and the win rate of one over the other."""

from collections.abc import Sequence
from pathlib import Path

from evals.judges import judge_model_files
from evals.models.contenders import existing_file
from schemas.stage import RESUME_FOLDER, Stage, called_later, implementation
from schemas.work import Known, Work, at_most
from stages.evaluate.config import EvaluateConfig


def _files(config: EvaluateConfig) -> Sequence[Path]:
    further = config.compare_with.values()
    named = [s for s in (config.policy, config.baseline, *further) if s is not None]
    prompts = _prompt_files(config.prompts) if config.prompts else []
    labels = [existing_file(config.labels, "file of labels")] if config.labels else []
    models = [path for source in named for path in source.files()]
    truth = judge_model_files(config.truth) if config.truth else []
    return [*prompts, *labels, *_task_files(config), *models, *truth]


def _prompt_files(named: str) -> list[Path]:
    found: list[Path] = implementation("evals.files.standards.sets:prompt_files")(named)
    return found


def _task_files(config: EvaluateConfig) -> list[Path]:
    """Files of one's own tasks, and those that the arguments of tasks name."""
    tasks = [task.partition("@")[0] for task in config.tasks]
    own = [existing_file(name, "file of inspect tasks") for name in tasks if name.endswith(".py")]
    said = [value for args in config.task_args.values() for value in args.values()]
    given = [Path(value) for value in said if isinstance(value, str) and value]
    return [*own, *(path for path in given if path.is_file())]


def _work(config: EvaluateConfig, known: Known) -> Work:
    prompts = at_most(known.get("ingest", {}).get(f"prompts/{config.split}"), config.max_prompts)
    if prompts is None:
        return Work("verdicts")
    judges = ("judge" in known) + (config.truth is not None)
    models = 2 + len(config.compare_with)
    completions = prompts * config.n
    more = prompts * (config.best_of or 0)
    others = 1 + len(config.compare_with) + bool(config.best_of)
    pairs = others * (others - 1) // 2 if config.all_pairs else 0
    tokens = (models * completions + more) * config.max_tokens
    if known.get("judge", {}).get("pointwise"):  # whoever is compared, each is rated once
        return Work("ratings", models * completions + more, tokens)
    return Work("verdicts", 2 * (judges * completions * (1 + pairs) + more), tokens)


STAGE = Stage(
    name="evaluate",
    summary="benchmarks and win rate of the policy against its baseline on held-out prompts",
    config=EvaluateConfig,
    inputs=("ingest", "sft", "judge", "train"),
    run=called_later("stages.evaluate.run", "evaluate"),
    version=6,
    files=_files,
    work=_work,
    reuses=RESUME_FOLDER,
    batches=("sampler_batch_size", "judge_batch_size"),
)
