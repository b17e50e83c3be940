"""The settings of a stage at the end of its help, a line each, and a line a section."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from rich.text import Text

from pipeline.display.console import Console
from pipeline.settings.catalogue import Setting, settings_of
from schemas.stage import Stage


def show_settings(stage: Stage[Any]) -> None:
    """Print the stage's own settings with default and meaning, then its sections with their keys.

    One line each: no more than fits the terminal.
    """
    # What several kinds have, each in its own way, is one line here.
    found = list({one.key: one for one in reversed(settings_of(stage.config))}.values())[::-1]
    console = Console(highlight=False)
    console.print(Text(f" Settings of [{stage.name}]", style="bold"))
    for one in found:
        if not one.group and not one.members:
            _print(console, one, f"{default_words(one)}: {one.meaning}")
    groups = [one for one in found if one.members and not one.group]
    if groups:
        console.print(Text(" Sections in it", style="bold"))
    for one in groups:
        _print(console, one, f": {_names(one, found)}")
    more = f" all of it: prefline explain {stage.name}; one: prefline explain {stage.name}.KEY"
    console.print(Text(more, style="dim"))


def _print(console: Console, one: Setting, rest: str) -> None:
    line = Text.assemble(" ", (one.key, "cyan"), rest)
    console.print(line, no_wrap=True, overflow="ellipsis")


def setting_lines(model: type[BaseModel]) -> Iterator[str]:
    """A line per key of a section and of all sections in it: default, legal values, meaning."""
    for one in settings_of(model):
        yield in_full(one)


def in_full(one: Setting) -> str:
    """A setting with all that is known of it, in one line."""
    kinds = f" ({_of_kinds(one)})" if one.kinds else ""
    return f"{one.key}{default_words(one)} ({one.legal}): {one.meaning}{kinds}"


def default_words(one: Setting) -> str:
    """The default after an equals sign; nothing of a section, and a word where one is asked for."""
    if one.default is None:
        return ", required"
    return f" = {one.default}" if one.default else ""


def _of_kinds(one: Setting) -> str:
    others = [kind for kind in one.all_kinds if kind not in one.kinds]
    few = len(one.kinds) <= len(others)
    return f"{'only' if few else 'not'} {', '.join(one.kinds if few else others)}"


def _names(one: Setting, found: list[Setting]) -> str:
    """The keys of a section, the kind first."""
    inside = [s.key.removeprefix(f"{one.key}.") for s in found if s.group == one.key]
    kinds = next((s for s in found if s.key == f"{one.key}.kind"), None)
    if kinds is not None:
        inside = [f"kind ({kinds.legal})", *(name for name in inside if name != "kind")]
    return ", ".join(inside)
