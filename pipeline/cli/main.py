"""The application, and how it ends: 0 done, 2 something the user can fix, 1 a bug."""

import errno
import os
import shlex
import signal
import sys
from contextlib import suppress
from shutil import get_terminal_size
from textwrap import fill
from types import FrameType
from typing import Annotated, NoReturn

import typer

from pipeline.cli.lazy import LazyGroup
from pipeline.display.terminal_text import visible
from pipeline.world_errors import is_interrupt, safe_streams, sentence_of
from schemas.errors import PipelineError

# What Typer returns instead of letting a KeyboardInterrupt through.
_INTERRUPTED = 130
_NARROWEST = 20

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
    safe_streams()
    try:
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        _leave_ranks(code or 0)
        sys.stdout.flush()  # a reader that has left is an error to be told, not one of the end
        raise SystemExit(code)
    except SystemExit:
        if not _reader_has_left():
            raise
        _fail_for_the_world(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE), "stdout"))
    except PipelineError as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        _interrupted()
    except Exception as error:
        # Typer's own usage errors: they have their sentence ready, and may know the command.
        sentence = getattr(error, "format_message", None)
        if sentence is None:
            _fail_for_the_world(error)
        if not sentence():  # a bare `prefline` has shown its help already
            raise SystemExit(2) from None
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "prefline"
        _fail(f"{sentence().rstrip('.')}; see `{command} --help`")
    except BaseException as error:  # a group with an interrupt in it, or Rust in panic
        if is_interrupt(error):
            _interrupted()
        _fail_for_the_world(error)


def _reader_has_left() -> bool:
    """Whether Typer has ended the command, without a word, since nobody reads its output."""
    return type(sys.stdout).__name__ == "PacifyFlushWrapper"


def _leave_ranks(code: int) -> None:
    """Under torchrun, end together with the other ranks."""
    ranks = sys.modules.get("pipeline.runs.ranks")
    if ranks is not None and ranks.on_several_ranks():
        ranks.leave(code)


def _interrupted() -> NoReturn:
    command = shlex.join(["prefline", *sys.argv[1:]])
    _fail(f"interrupted; nothing is lost: run `{command}` again to continue")


def _fail_for_the_world(error: BaseException) -> NoReturn:
    """Say an error of the world in one line; raise it again where it is a bug of ours."""
    said = sentence_of(error)
    if said is None or os.environ.get("PREFLINE_TRACEBACK"):
        raise error
    _fail(said)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    """Do what Ctrl-C does at this moment: an event loop then ends its tasks, and none is left."""
    on_interrupt = signal.getsignal(signal.SIGINT)
    if callable(on_interrupt):
        on_interrupt(number, frame)
    else:
        raise KeyboardInterrupt


def _fail(message: str) -> NoReturn:
    with suppress(OSError, ValueError):  # nobody may be listening
        sys.stderr.write(f"{_at_words(f'error: {visible(message)}')}\n")
        sys.stderr.flush()
    _forget_unsaid()
    raise SystemExit(2)


def _at_words(message: str) -> str:
    """On a terminal, a message broken between words; elsewhere its lines stay as they are."""
    if not sys.stderr.isatty():
        return message
    width = max(_NARROWEST, get_terminal_size().columns - 1)
    return "\n".join(
        fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for line in message.splitlines()
    )


def _forget_unsaid() -> None:
    """Keep Python from complaining, while it ends, that an output is closed or full."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
