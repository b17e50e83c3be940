"""The run that a command's options name."""

from pathlib import Path
from typing import Any

from pipeline.recipe import Recipe
from pipeline.runs.rounds import pick_round, stages_of
from pipeline.runs.run import Run
from schemas.errors import ConfigError
from schemas.stage import Stage


def look_at(recipe: Recipe, run_dir: Path | None) -> Run:
    """The run of a recipe, which need not have begun. Raises ConfigError where it is another's."""
    run = Run(run_dir or Path("runs") / recipe.name, recipe)
    run.refuse_foreign()
    return run


def open_run(recipe: Recipe, run_dir: Path | None) -> Run:
    """The run of a recipe, begun. Raises ConfigError where it is another's."""
    run = look_at(recipe, run_dir)
    run.claim()
    return run


def open_round(first: Run, stage: Stage[Any], number: int) -> Run:
    """One round of a run, begun. Raises ConfigError where the stage is the same in all rounds."""
    if stage not in stages_of(number):
        raise ConfigError(f"{stage.name}: is the same in every round; leave --round out")
    run = pick_round(first, number)
    run.claim()
    return run
