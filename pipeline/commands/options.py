"""Options that several commands have, and the recipe and the run that they name."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.recipe import Recipe, load_recipe
from pipeline.runs.rounds import pick_round, stages_of
from pipeline.runs.run import Run
from schemas.errors import ConfigError
from schemas.stage import Stage

RECIPES = Path(__file__).parents[1] / "recipes"

RecipeOption = Annotated[
    Path,
    typer.Option("--recipe", "-r", help="A recipe file, or the name of a shipped one."),
]
RunDirOption = Annotated[
    Path | None,
    typer.Option("--run-dir", "-d", help="Where the run lives. Default: runs/<recipe's name>."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="Override a setting: section.key=value. May be repeated."),
]
RoundOption = Annotated[
    int, typer.Option("--round", help="Which round of iterative training, from 1.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
ExistingRunOption = Annotated[
    Path, typer.Option("--run-dir", "-d", help="The run directory to look into.")
]


def resolve(recipe: Path, overrides: list[str] | None) -> Recipe:
    """The recipe of a file, or a shipped one by its name. Raises what `load_recipe` raises."""
    shipped = RECIPES / f"{recipe}.toml"
    named = not recipe.exists() and len(recipe.parts) == 1 and shipped.exists()
    return load_recipe(shipped if named else recipe, overrides or [])


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
