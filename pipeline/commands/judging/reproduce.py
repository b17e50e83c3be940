"""The reproduce command: published numbers, recomputed from files that the user has."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.display.terminal_text import say_json

if TYPE_CHECKING:
    from evals.files.published.numbers import Number

Name = Literal["alpaca-eval", "arena-hard", "judgebench", "llmbar", "mt-bench", "pandalm"]

_SHOWN = 100


def reproduce(
    name: Annotated[Name, typer.Argument(help="Whose published numbers.")],
    path: Annotated[
        Path, typer.Argument(help="The folder that holds its files, or the git directory of it.")
    ],
    tolerance: Annotated[
        float | None,
        typer.Option(min=0, help="Largest difference allowed, in place of each number's own."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")] = False,
) -> None:
    """Recompute published numbers offline, and say how far ours are from them.

    Exits with 1 where one is beyond its tolerance.
    """
    found = _numbers(name, path)
    missed = [one for one in found if not one.holds(tolerance)]
    if as_json:
        rows = [_row(one, tolerance) for one in found]
        said = {"name": name, "n": len(found), "beyond": len(missed), "numbers": rows}
        say_json(json.dumps(said, allow_nan=False))
    else:
        _show(name, found, missed)
    if missed:
        raise typer.Exit(1)


def _numbers(name: Name, path: Path) -> "list[Number]":
    from evals.files.published.alpaca_eval import alpaca_eval
    from evals.files.published.arena_hard import arena_hard
    from evals.files.published.judge_bench import judge_bench
    from evals.files.published.llmbar import llmbar
    from evals.files.published.mt_bench import mt_bench
    from evals.files.published.numbers import Files
    from evals.files.published.pandalm import pandalm

    if name == "alpaca-eval":
        return list(alpaca_eval(path))
    if name == "judgebench":
        return list(judge_bench(path))
    of_files = {
        "arena-hard": arena_hard,
        "llmbar": llmbar,
        "mt-bench": mt_bench,
        "pandalm": pandalm,
    }
    return list(of_files[name](Files(path)))


def _row(one: "Number", tolerance: float | None) -> dict[str, object]:
    finite = one.ours == one.ours
    return {
        "group": one.group,
        "what": one.what,
        "published": one.published,
        "ours": one.ours if finite else None,
        "difference": one.difference if finite else None,
        "tolerance": one.tolerance if tolerance is None else tolerance,
        "holds": one.holds(tolerance),
    }


def _show(name: Name, found: "Sequence[Number]", missed: "Sequence[Number]") -> None:
    """All numbers; of very many those that are missed, and the largest difference of each kind."""
    from rich.table import Table

    from pipeline.display.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    many = len(found) > _SHOWN
    table = Table("of", "what", box=None, padding=(0, 2, 0, 0))
    for column in ("published", "ours", "difference"):
        table.add_column(column, justify="right")
    for one in missed[:_SHOWN] if many else found:
        off = "" if one.difference is None else f"{one.difference:+.2g}"
        numbers = [_short(one.published), _short(one.ours), off]
        table.add_row(one.group, one.what, *numbers)
    if table.row_count:
        console.print(table)
    if many:
        kinds = Table("what", box=None, padding=(0, 2, 0, 0))
        for column in ("numbers", "largest difference"):
            kinds.add_column(column, justify="right")
        for what in dict.fromkeys(one.what for one in found):
            alike = [
                abs(d) for one in found if one.what == what and (d := one.difference) is not None
            ]
            kinds.add_row(what, f"{len(alike):,}", f"{max(alike):.2g}" if alike else "")
        console.print(kinds)
    known = [one for one in found if one.published is not None]
    alone = f"; {len(found) - len(known):,} have none published" if len(known) < len(found) else ""
    held = len(known) - len(missed)
    console.print(f"{name}: {held:,} of {len(known):,} published numbers reproduced{alone}")


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:,.6g}"
