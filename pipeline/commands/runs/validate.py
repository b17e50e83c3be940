"""The validate command: a recipe checked whole, without running anything."""

import json
from typing import Annotated

import typer

from pipeline import preflight
from pipeline.commands.options import (
    JsonOption,
    RecipeOption,
    RunDirOption,
    SetOption,
    named_recipe,
)
from pipeline.display.terminal_text import say, say_json
from pipeline.memory import bills, show_bills
from pipeline.recipe import Recipe
from schemas.errors import PipelineError


def validate(
    recipe: RecipeOption = None,
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no server and no hub whether it is there.")
    ] = False,
    models: Annotated[
        bool,
        typer.Option(
            help="Look at the chat templates of local models too, as `prefline doctor` does "
            "(seconds, in a process of its own)."
        ),
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Check a recipe whole, without running anything; print all of its mistakes at once."""
    try:
        loaded = named_recipe(recipe, run_dir, overrides)
        found = preflight.problems(loaded)
        missing, unknown = preflight.hub_problems(loaded, ask=not offline)
        found += missing
        if not offline:
            away, spared = preflight.server_problems(loaded, loaded.stages)
            found, unknown = found + away, unknown + spared
        if models:
            found += preflight.template_problems_in_a_child(preflight.chat_models(loaded))
        preflight.refuse(loaded, found)
    except PipelineError as error:
        if not as_json:
            raise
        head, *listed = str(error).split("\n  ")
        found = listed or [head]
        say_json(json.dumps({"valid": False, "recipe": str(recipe or run_dir), "problems": found}))
        raise typer.Exit(2) from None
    if as_json:
        configs = {name: c.model_dump(mode="json") for name, c in loaded.stages.items()}
        warnings = [*_old_names(loaded), *preflight.warnings(loaded), *unknown]
        memory = {one.stage: one.as_json() for one in bills(loaded)}
        said = {
            "valid": True,
            "name": loaded.name,
            "stages": configs,
            "warnings": warnings,
            "memory": memory,
            "sweep": [dict(variant.point.settings) for variant in loaded.variants],
        }
        say_json(json.dumps(said))
    else:
        say(f"{loaded.path}: valid; stages: {', '.join(loaded.stages)}")
        if loaded.hardware:
            say(f"hardware: {loaded.hardware}")
        if loaded.variants:
            say(f"sweep: {', '.join(v.point.name for v in loaded.variants)}")
        for warning in [*_old_names(loaded), *preflight.warnings(loaded), *unknown]:
            say(f"warning: {warning}")
        show_bills(loaded)


def _old_names(recipe: Recipe) -> list[str]:
    """What settings under names of before are called now; a run says so at their stage."""
    return [note for config in recipe.stages.values() for note in getattr(config, "notes", ())]
