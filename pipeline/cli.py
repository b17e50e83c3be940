"""The command line: one command per stage, and what one needs around them."""

import errno
import json
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from pipeline.commands.audit import audit
from pipeline.commands.export import export
from pipeline.commands.judge_card import judge_card
from pipeline.commands.show import show
from pipeline.commands.stats import stats
from pipeline.commands.win_rate import win_rate
from pipeline.display.progress import make_progress
from pipeline.display.settings_help import settings_help
from pipeline.recipe import Recipe, load_recipe
from pipeline.runs.checkpoint_run import checkpoint_run
from pipeline.runs.locks import run_lock
from pipeline.runs.ranks import (
    execute_on_ranks,
    leave,
    on_several_ranks,
    refuse_several_ranks,
    said_once,
)
from pipeline.runs.rounds import pick_round, rounds_of, run_rounds, stages_of
from pipeline.runs.run import Outcome, Run
from pipeline.stage_registry import BY_NAME, STAGES
from schemas.errors import ConfigError, PipelineError
from schemas.manifest import Manifest
from schemas.stage import Stage

# What Typer returns instead of letting a KeyboardInterrupt through.
_INTERRUPTED = 130
# What the operating system says when a disk or folder will not take a file.
_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}

app = typer.Typer(
    name="prefline",
    help="From preference data to a win rate one can trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

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


def run_cli() -> None:
    """Run the command line and exit: 0 done, 2 something the user can fix, 1 a bug."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        if on_several_ranks():
            leave(code or 0)
        raise SystemExit(code)
    except PipelineError as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        command = shlex.join(["prefline", *sys.argv[1:]])
        _fail(f"interrupted; nothing is lost: run `{command}` again to continue")
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        _fail(
            f"{error.filename or 'output'}: {error.strerror}; free it or choose another --run-dir"
        )
    except Exception as error:
        # Typer's own usage errors: they have their sentence ready, and may know the command.
        sentence = getattr(error, "format_message", None)
        if sentence is None:
            raise
        if not sentence():  # a bare `prefline` has shown its help already
            raise SystemExit(2) from None
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "prefline"
        _fail(f"{sentence().rstrip('.')}; see `{command} --help`")


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(message: str) -> None:
    sys.stderr.write(f"error: {message}\n")
    raise SystemExit(2)


def _resolve(recipe: Path, overrides: list[str] | None) -> Recipe:
    shipped = Path(__file__).parent / "recipes" / f"{recipe}.toml"
    named = not recipe.exists() and len(recipe.parts) == 1 and shipped.exists()
    return load_recipe(shipped if named else recipe, overrides or [])


def _look_at(recipe: Recipe, run_dir: Path | None) -> Run:
    """The run of a recipe, which need not have begun. Raises ConfigError where it is another's."""
    run = Run(run_dir or Path("runs") / recipe.name, recipe)
    run.refuse_foreign()
    return run


def _open_run(recipe: Recipe, run_dir: Path | None) -> Run:
    run = _look_at(recipe, run_dir)
    run.claim()
    return run


def _open_round(first: Run, stage: Stage[Any], number: int) -> Run:
    if stage not in stages_of(number):
        raise ConfigError(f"{stage.name}: is the same in every round; leave --round out")
    run = pick_round(first, number)
    run.claim()
    return run


def _stage_command(stage: Stage[Any]) -> Callable[..., None]:
    def command(
        recipe: RecipeOption,
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
            loaded = _resolve(recipe, overrides)

        def execute(wrapped: Stage[Any]) -> tuple[Outcome, Manifest]:
            first = _open_run(loaded, run_dir)
            run = _open_round(first, stage, number)
            run = checkpoint_run(run, stage, checkpoint_step)
            run.claim()
            with run_lock(first.directory, whole=False):
                return run.execute(wrapped, make_progress())

        done = execute_on_ranks(stage, loaded, execute) if on_several_ranks() else execute(stage)
        if done is None:  # another rank than 0: it has helped, and has nothing to say
            return
        outcome, manifest = done
        _say(f"{stage.name}: {outcome}")
        if as_json:
            record = {"stage": stage.name, "outcome": outcome, "counts": manifest.counts}
            typer.echo(json.dumps(record))

    return command


for _stage in STAGES:
    app.command(
        name=_stage.name,
        help=_stage.summary,
        epilog=settings_help(_stage) if _stage.name in sys.argv[1:] else None,
        rich_help_panel="Stages",
    )(_stage_command(_stage))


@app.command(rich_help_panel="Runs")
def run(
    recipe: RecipeOption,
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would run, why, and what it takes.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run every stage of a recipe that is not up to date, and say what came out."""
    from pipeline.display.outcome import outcome_table, read_summary

    refuse_several_ranks("run")
    if until is not None and until not in BY_NAME:
        raise ConfigError(f"--until {until}: no such stage; one of {', '.join(BY_NAME)}")
    loaded = _resolve(recipe, overrides)
    if dry_run:
        return _show_plan(loaded, run_dir, as_json)
    opened = _open_run(loaded, run_dir)
    opened.refuse_missing_files()
    progress = make_progress()
    with run_lock(opened.directory, whole=True):
        last = run_rounds(opened, until, progress, _say)
    summary = read_summary(last.directory)
    if until is not None:
        return
    if as_json:
        typer.echo(json.dumps(summary))
    elif summary:
        outcome_table(last.directory, summary)


def _show_plan(loaded: Recipe, run_dir: Path | None, as_json: bool) -> None:
    from pipeline.commands.plan import plan, plan_json, plan_table

    planned = plan(rounds_of(_look_at(loaded, run_dir)))
    if as_json:
        typer.echo(json.dumps(plan_json(planned)))
    else:
        plan_table(planned)


@app.command(rich_help_panel="Runs")
def status(
    recipe: RecipeOption,
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which stages are fresh, stale, interrupted or missing, and why."""
    from pipeline.commands.status import status_json, status_tables

    runs = rounds_of(_look_at(_resolve(recipe, overrides), run_dir))
    if as_json:
        typer.echo(json.dumps(status_json(runs)))
    else:
        status_tables(runs)


@app.command(rich_help_panel="Runs")
def validate(
    recipe: RecipeOption, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """Check a recipe whole, without running anything; print all of its mistakes at once."""
    loaded = _resolve(recipe, overrides)
    if as_json:
        configs = {name: c.model_dump(mode="json") for name, c in loaded.stages.items()}
        typer.echo(json.dumps({"name": loaded.name, "stages": configs}))
    else:
        typer.echo(f"{loaded.path}: valid; stages: {', '.join(loaded.stages)}")
        typer.echo(f"hardware: {loaded.hardware}")


app.command(rich_help_panel="Data")(show)


@app.command(rich_help_panel="Data")
def trace(
    row_id: Annotated[str, typer.Argument(help="A pair, comparison, completion or prompt id.")],
    run_dir: ExistingRunOption = Path("runs/food"),
    as_json: JsonOption = False,
) -> None:
    """Follow a pair back through verdicts and completions to its raw file and line."""
    from pipeline.commands.trace import show_trace, trace_back

    steps = trace_back(row_id, run_dir)
    if as_json:
        typer.echo(json.dumps(steps, ensure_ascii=False))
    else:
        show_trace(steps)


app.command(rich_help_panel="Data")(stats)
app.command(rich_help_panel="Data")(export)
app.command("win-rate", rich_help_panel="Data")(win_rate)
app.command("judge-card", rich_help_panel="Data")(judge_card)
app.command(rich_help_panel="Data")(audit)


def _say(message: str) -> None:
    sys.stderr.write(message + "\n")
