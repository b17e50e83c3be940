"""A kept checkpoint of a run, evaluated beside the published one: neither overwrites the other."""

from dataclasses import replace

from pipeline.runs.run import Run
from schemas.errors import ConfigError
from schemas.stage import Stage
from stages.evaluate import STAGE as EVALUATE
from stages.evaluate.config import EvaluateConfig


def checkpoint_run(run: Run, stage: Stage[EvaluateConfig], step: int | None) -> Run:
    """The run in which `stage` is about the checkpoint of `step`: `run` itself without a step.

    It is the folder `checkpoint-N` of the run directory and holds an evaluation alone, which
    reads all else where the run has it.

    Raises:
        ConfigError: the stage is not evaluate, or the recipe has none.
    """
    if step is None:
        return run
    config = run.recipe.stages.get(EVALUATE.name)
    if stage.name != EVALUATE.name or not isinstance(config, EvaluateConfig):
        raise ConfigError("--checkpoint-step: is for evaluate, of a recipe with [evaluate]")
    chosen = config.model_copy(update={"checkpoint_step": step})
    recipe = replace(run.recipe, stages={**run.recipe.stages, EVALUATE.name: chosen})
    links = {EVALUATE.name: run.inputs(EVALUATE)}
    return Run(run.directory / f"checkpoint-{step}", recipe, links)
