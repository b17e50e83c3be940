"""The run command: a whole recipe, and what came of it."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline import preflight
from pipeline.commands.from_run import start_from
from pipeline.commands.named_run import look_at, open_run, refuse_all_missing
from pipeline.commands.options import (
    JsonOption,
    RecipeOption,
    RunDirOption,
    SetOption,
    named_recipe,
)
from pipeline.commands.run_record import recipe_of
from pipeline.commands.runs.plan import plan, plan_json, plan_table
from pipeline.display.outcome import outcome_table, read_summary
from pipeline.display.progress import make_progress
from pipeline.display.terminal_text import say_json, visible
from pipeline.memory import bills, show_bills
from pipeline.recipe import Recipe
from pipeline.runs.locks import run_lock
from pipeline.runs.ranks import refuse_several_ranks
from pipeline.runs.rounds import rounds_of, run_rounds
from pipeline.runs.run import Run
from pipeline.stage_registry import BY_NAME, STAGES
from pipeline.sweeps.show import sweep_table
from pipeline.sweeps.work import run_sweep
from schemas.errors import ConfigError


def run(
    recipe: RecipeOption = None,
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", help="Start from the policy that the run in this folder trained."),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1, help="Train so many times, with seeds 1, 2, ...: what does a rerun move?"
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would run, why, and what it takes.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run every stage of a recipe that is not up to date, and say what came out."""
    refuse_several_ranks("run")
    if until is not None and until not in BY_NAME:
        raise ConfigError(f"--until {until}: no such stage; one of {', '.join(BY_NAME)}")
    seeds_said = [f"train.seeds={list(range(1, seeds + 1))}"] if seeds else []
    named = recipe or (recipe_of(run_dir).recipe if run_dir else None)
    started = start_from(start, run_dir, named) if start and named else []
    loaded = named_recipe(recipe, run_dir, [*started, *(overrides or []), *seeds_said])
    if dry_run:
        return _show_plan(loaded, run_dir, as_json)
    last = run_recipe(loaded, run_dir, until)
    summary = read_summary(last.directory)
    if until is None and as_json:
        say_json(json.dumps(summary))
    elif until is None and summary:
        outcome_table(last.directory, summary)
        if loaded.variants:
            sweep_table(last.directory)
    refuse_all_missing(last)


def run_recipe(recipe: Recipe, run_dir: Path | None, until: str | None = None) -> Run:
    """Bring all rounds of a recipe up to date, or all stages up to one; the last run.

    Raises:
        PipelineError: what the user can mend, before a stage is begun where that can be.
    """
    preflight.refuse(recipe, preflight.problems(recipe))
    opened = open_run(recipe, run_dir)
    opened.refuse_missing_files()
    to_do = _to_do(opened, until)
    away, spared = preflight.server_problems(recipe, to_do)
    preflight.refuse(recipe, away)
    if to_do:
        missing, unknown = preflight.hub_problems(recipe)
        preflight.refuse(recipe, missing)
        for warning in [*preflight.warnings(recipe), *spared, *unknown]:
            _say(f"warning: {warning}")
        preflight.refuse(recipe, preflight.template_problems(preflight.chat_models(recipe)))
    with run_lock(opened.directory, whole=True):
        if recipe.variants:
            return run_sweep(opened, until, make_progress(), _say)
        return run_rounds(opened, until, make_progress(), _say)


def _to_do(first: Run, until: str | None) -> set[str]:
    """The stages that any round has something to do for: finished ones ask no server."""
    planned = plan(rounds_of(first))
    last = [stage.name for stage in STAGES].index(until) if until else len(STAGES)
    wanted = {stage.name for stage in STAGES[: last + 1]}
    return {one.stage for one in planned if one.runs and (one.stage in wanted or one.round > 1)}


def _show_plan(loaded: Recipe, run_dir: Path | None, as_json: bool) -> None:
    planned = plan(rounds_of(look_at(loaded, run_dir)))
    if as_json:
        memory = {one.stage: one.as_json() for one in bills(loaded)}
        say_json(json.dumps({**plan_json(planned), "memory": memory}))
    else:
        plan_table(planned)
        show_bills(loaded)


def _say(message: str) -> None:
    sys.stderr.write(visible(message) + "\n")
