"""A group of commands each of which is imported when it is typed."""

import gc
from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from pipeline.cli.listing import COMMANDS, Listed


class LazyCommand(TyperCommand):
    """A command by its line in the listing; the rest is loaded when somebody asks for it."""

    def __init__(self, listed: Listed) -> None:
        self._listed = listed
        self._loaded: Any = None
        super().__init__(
            name=listed.name,
            help=listed.summary,
            rich_help_panel=listed.panel,
            add_help_option=False,
        )

    @property
    def params(self) -> list[Any]:
        """The options and arguments of the command itself."""
        return list(self.loaded().params)

    @params.setter
    def params(self, value: list[Any]) -> None:
        """What the base class has to say is nothing."""

    def loaded(self) -> Any:
        """The command itself."""
        if self._loaded is None:
            self._loaded = _load(self._listed)
        return self._loaded

    def make_context(self, *arguments: Any, **keywords: Any) -> Any:
        """The context of the command itself, which runs it."""
        loaded = self.loaded()
        # Loading leaves no garbage: it is switched off until here, and never looks there again.
        gc.freeze()
        gc.enable()
        return loaded.make_context(*arguments, **keywords)


class LazyGroup(TyperGroup):
    """All commands of the listing, in its order."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {listed.name: LazyCommand(listed) for listed in COMMANDS}


def _load(listed: Listed) -> Any:
    function: Callable[..., Any] = getattr(import_module(listed.module), listed.function)
    kind = TyperCommand
    if listed.is_stage:
        function, more = function(listed.name)
        kind = _with_more_help(more)
    alone = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    said = listed.summary if listed.is_stage else None
    alone.command(name=listed.name, help=said, cls=kind)(function)
    return get_command(alone)


def _with_more_help(more: Callable[[], None]) -> type[TyperCommand]:
    """The class of a command whose help goes on with what `more` prints."""

    class WithMoreHelp(TyperCommand):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            super().format_help(ctx, formatter)
            more()

    return WithMoreHelp
