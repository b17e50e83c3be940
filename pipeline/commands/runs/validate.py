"""The validate command: a recipe checked whole, without running anything."""

import json

import typer

from pipeline.commands.options import JsonOption, RecipeOption, SetOption, resolve


def validate(
    recipe: RecipeOption, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """Check a recipe whole, without running anything; print all of its mistakes at once."""
    loaded = resolve(recipe, overrides)
    if as_json:
        configs = {name: c.model_dump(mode="json") for name, c in loaded.stages.items()}
        typer.echo(json.dumps({"name": loaded.name, "stages": configs}))
    else:
        typer.echo(f"{loaded.path}: valid; stages: {', '.join(loaded.stages)}")
        typer.echo(f"hardware: {loaded.hardware}")
