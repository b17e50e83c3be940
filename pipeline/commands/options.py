"""Options that several commands have, and the recipe that they name."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.recipe import Recipe, load_recipe

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
