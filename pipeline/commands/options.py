"""Options that several commands have, and the recipe that they name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.commands.run_record import recipe_of
from pipeline.display.terminal_text import say
from pipeline.recipe import Recipe, load_recipe
from schemas.errors import ConfigError

RECIPES = Path(__file__).parents[1] / "recipes"

RecipeOption = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        "-r",
        help="A recipe file, or the name of a shipped one. Default: that of the run in --run-dir.",
    ),
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

ApiKeyOption = Annotated[
    str | None, typer.Option(help="Environment variable with the key of the servers.")
]
PromptPriceOption = Annotated[
    float, typer.Option(min=0, help="Price of a million tokens that the judge reads.")
]
CompletionPriceOption = Annotated[
    float, typer.Option(min=0, help="Price of a million tokens that the judge writes.")
]
MaxCostOption = Annotated[float | None, typer.Option(min=0, help="Most that the judge may cost.")]


def judge_runtime(
    prompt_price: float, completion_price: float, max_cost: float | None
) -> dict[str, Any]:
    """The [runtime] of a recipe whose judge has a price."""
    prices = {
        "price_per_million_prompt_tokens": prompt_price or None,
        "price_per_million_completion_tokens": completion_price or None,
        "max_cost": max_cost,
    }
    said = {name: value for name, value in prices.items() if value is not None}
    return {"judge_server": said} if said else {}


def resolve(recipe: Path, overrides: Sequence[str] | None) -> Recipe:
    """The recipe of a file, or a shipped one by its name. Raises what `load_recipe` raises."""
    loaded = load_recipe(shipped_or(recipe), overrides or [])
    for note in loaded.notes:
        say(f"note: {loaded.path}: {note}", err=True)
    return loaded


def named_recipe(
    recipe: Path | None, run_dir: Path | None, overrides: Sequence[str] | None
) -> Recipe:
    """The recipe that is named, or the one by which the run directory was made.

    `overrides` go before what the run was made with.

    Raises:
        ConfigError: neither is named, or the run does not say.
        MissingInputError: no run is there, or its recipe is gone.
    """
    if recipe is not None:
        return resolve(recipe, overrides)
    if run_dir is None:
        raise ConfigError(
            "give a recipe with --recipe, or with --run-dir a run that has been begun"
        )
    made, said = recipe_of(run_dir), [*(overrides or ())]
    anew = {_key(one) for one in said}
    return resolve(made.recipe, [*(o for o in made.overrides if _key(o) not in anew), *said])


def _key(override: str) -> str:
    return override.partition("=")[0].strip()


def shipped_or(recipe: Path) -> Path:
    """The file of a shipped recipe, where that is what is named; else the path as it is."""
    shipped = RECIPES / f"{recipe}.toml"
    named = not (recipe.exists() or recipe.is_absolute()) and shipped.is_file()
    return shipped if named else recipe


def one_run_dir(run: Path | None, run_dir: Path | None) -> Path | None:
    """The run directory that is named, by itself or by --run-dir. Raises ConfigError for two."""
    if run is not None and run_dir is not None and run.resolve() != run_dir.resolve():
        raise ConfigError(f"{run} and --run-dir {run_dir}: name one run directory")
    return run or run_dir
