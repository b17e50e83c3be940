"""Text that strangers and models wrote, made safe to print on a terminal.

Everything the commands say goes through `say`, `say_json` or the console of `console.py`; a test
holds that nothing else writes.
"""

import unicodedata
from collections.abc import Callable

import typer

# Joiners shape emoji and scripts (Persian, Hindi): they are text, not tricks.
_JOINERS = "\u200c\u200d"


def visible(text: str) -> str:
    """Text with control characters escaped, so that a row cannot drive the terminal.

    What is invisible or reorders its neighbours is escaped too; spaces of all widths are not.
    """
    return _escaped(text, lambda character: repr(character)[1:-1])


def say(text: object, *, err: bool = False) -> None:
    """Print a line, with nothing in it executed by the terminal."""
    typer.echo(visible(str(text)), err=err)


def say_json(text: str) -> None:
    """Print JSON likewise: what is not harmless is escaped as JSON escapes."""
    typer.echo(_escaped(text, _in_json))


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return "".join(c if _is_harmless(c) else escape(c) for c in text)


def _in_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _is_harmless(character: str) -> bool:
    if character.isprintable() or character in "\n\t" or character in _JOINERS:
        return True
    return unicodedata.category(character) == "Zs"
