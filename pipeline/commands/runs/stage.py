"""The command of each stage."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.commands.named_run import look_at, open_round, refuse_missing
from pipeline.commands.options import (
    JsonOption,
    RecipeOption,
    RoundOption,
    RunDirOption,
    SetOption,
    named_recipe,
    one_run_dir,
)
from pipeline.commands.run_record import Made, remembering
from pipeline.display.progress import make_progress
from pipeline.display.terminal_text import say_json
from pipeline.runs.checkpoint_run import checkpoint_run
from pipeline.runs.locks import run_lock
from pipeline.runs.ranks import execute_on_ranks, on_several_ranks, said_once
from pipeline.runs.run import Outcome
from pipeline.settings.help_text import show_settings
from pipeline.stage_registry import BY_NAME
from schemas.manifest import Manifest
from schemas.stage import Stage


def stage_command(name: str) -> tuple[Callable[..., None], Callable[[], None]]:
    """The function behind a stage's command, and what prints its settings after the help."""
    stage = BY_NAME[name]
    command = _report(_command(stage)) if name == "report" else _command(stage)
    return command, partial(show_settings, BY_NAME[name])


def _command(stage: Stage[Any]) -> Callable[..., None]:
    def command(
        recipe: RecipeOption = None,
        run_dir: RunDirOption = None,
        overrides: SetOption = None,
        number: RoundOption = 1,
        checkpoint_step: Annotated[
            int | None,
            typer.Option(
                min=1,
                hidden=stage.name != "evaluate",
                help="Evaluate the checkpoint of this step, into RUN/checkpoint-N/evaluate.",
            ),
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        with said_once():
            loaded = named_recipe(recipe, run_dir, overrides)

        def execute(wrapped: Stage[Any]) -> tuple[Outcome, Manifest]:
            first = look_at(loaded, run_dir)
            first.claim()
            made = Made(loaded.path, loaded.overrides)
            with remembering(first.directory, loaded.name, made):
                run = open_round(first, stage, number)
                run = checkpoint_run(run, stage, checkpoint_step)
                run.claim()
                with run_lock(first.directory, whole=False):
                    return run.execute(wrapped, make_progress())

        done = execute_on_ranks(stage, loaded, execute) if on_several_ranks() else execute(stage)
        if done is None:  # another rank than 0: it has helped, and has nothing to say
            return
        outcome, manifest = done
        sys.stderr.write(f"{stage.name}: {outcome}\n")
        if as_json:
            record = {"stage": stage.name, "outcome": outcome, "counts": manifest.counts}
            say_json(json.dumps(record))
        refuse_missing(stage.name, manifest)

    return command


def _report(of_a_recipe: Callable[..., None]) -> Callable[..., None]:
    """The command of report, which compares finished runs too."""

    def command(
        runs: Annotated[
            list[Path] | None,
            typer.Argument(help="A run whose page is made, or finished runs to compare."),
        ] = None,
        recipe: RecipeOption = None,
        run_dir: RunDirOption = None,
        overrides: SetOption = None,
        number: RoundOption = 1,
        out: Annotated[
            Path | None, typer.Option("--out", "-o", help="Where the page of compared runs goes.")
        ] = None,
        as_json: JsonOption = False,
    ) -> None:
        if runs and len(runs) > 1:
            # numpy and pyarrow, which the help of every stage can do without
            from pipeline.commands.runs.shelf import compare_runs

            compare_runs(runs, out, as_json)
        else:
            place = one_run_dir(runs[0] if runs else None, run_dir)
            of_a_recipe(recipe, place, overrides, number, None, as_json)

    return command
