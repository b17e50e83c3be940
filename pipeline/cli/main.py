"""The application, and how it ends: 0 done, 2 something the user can fix, 1 a bug."""

import errno
import shlex
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from pipeline.cli.lazy import LazyGroup
from schemas.errors import PipelineError

# What Typer returns instead of letting a KeyboardInterrupt through.
_INTERRUPTED = 130
# What the operating system says when a disk or folder will not take a file.
_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}

app = typer.Typer(
    name="prefline",
    cls=LazyGroup,
    help="From preference data to a win rate one can trust.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"prefline {version('prefline')}")
        except PackageNotFoundError:
            typer.echo("prefline, from a checkout that is not installed")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """From preference data to a win rate one can trust."""


def run_cli() -> None:
    """Run the command line and exit."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        _leave_ranks(code or 0)
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


def _leave_ranks(code: int) -> None:
    """Under torchrun, end together with the other ranks."""
    ranks = sys.modules.get("pipeline.runs.ranks")
    if ranks is not None and ranks.on_several_ranks():
        ranks.leave(code)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(message: str) -> None:
    sys.stderr.write(f"error: {message}\n")
    raise SystemExit(2)
