"""The stats command: data cards of a directory's tables, or of one, as JSON or in few lines."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.display.terminal_text import say_json, visible
from schemas.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.display.console import Console


def stats(
    what: Annotated[
        str,
        typer.Argument(help="A stage, a table as stage/table or table, a folder or Parquet file."),
    ] = "ingest",
    run_dir: Annotated[
        Path, typer.Option("--run-dir", "-d", help="The run directory to look into.")
    ] = Path("runs/food"),
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="Count tokens too: a tokenizer.json or a model's folder. Default: the run's own."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")] = False,
) -> None:
    """Show the data card of tables: sources, labels, ties, lengths, duplicates and rejects."""
    from evals.files.data_card import data_card
    from evals.models.token_lengths import find_tokenizer

    tables = tables_of(what, run_dir)
    if tokenizer is None and run_dir in tables[0].parents:
        tokenizer = find_tokenizer(run_dir)
    cards = {path.stem: data_card(path, tokenizer) for path in tables}
    if as_json:
        say_json(json.dumps(cards, ensure_ascii=False))
    else:
        show_cards(cards)


def tables_of(what: str, run_dir: Path) -> list[Path]:
    """The Parquet files of a folder or stage, else the one table that `what` names.

    Raises:
        ConfigError: a raw file.
        MissingInputError: neither a folder of tables nor a table.
    """
    from pipeline.display.raw_rows import RAW_SUFFIXES
    from pipeline.display.rows import find_table

    for folder in (Path(what), run_dir / what):
        found = sorted(folder.glob("*.parquet"))
        if found:
            return found
    if what.endswith(RAW_SUFFIXES) and Path(what).is_file():
        raise ConfigError(f"{what}: a raw file is no table; ingest it, or `prefline show` its rows")
    return [find_table(what, run_dir)]


def show_cards(cards: Mapping[str, Mapping[str, Any]]) -> None:
    """Print every card: rows, counts with shares, and a table of lengths and numbers."""
    from pipeline.display.console import Console

    # Lines go over the edge of a pipe, and are folded at the edge of a terminal.
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for name, card in cards.items():
        console.print(f"{visible(name)}: {card['rows']} rows", style="bold")
        for column, counts in card["counts"].items():
            _say_counts(console, column, counts, card["rows"])
        if len(card.get("by_source") or {}) > 1:
            for source, found in card["by_source"].items():
                _say(console, f"{visible(source)}: {', '.join(_source_words(found))}")
        if card.get("prompts_repeated"):
            _say(console, f"rows that repeat a prompt: {card['prompts_repeated']}")
        if card.get("chosen_longer") is not None:
            _say(console, f"chosen is the longer: {card['chosen_longer']:.1%}")
        spreads = dict(_spreads(card))
        if spreads:
            console.print(_spread_table(spreads))


def _say(console: "Console", line: str) -> None:
    width = console.width if console.is_terminal else sys.maxsize
    console.print(fill(line, width, initial_indent="  ", subsequent_indent="    "))


def _source_words(found: Mapping[str, Any]) -> Iterator[str]:
    """What is said of one source of comparisons."""
    yield f"{found['rows']} rows"
    yield f"{found['ties']} ties"
    if found["unlabelled"]:
        yield f"{found['unlabelled']} unlabelled"
    for key, words in (("a_share", "A preferred"), ("chosen_longer", "chosen is the longer")):
        if found[key] is not None:
            yield f"{words} {found[key]:.1%}"
    if found["strength"] is not None:
        yield f"mean strength {found['strength']:.3g}"


def _say_counts(console: "Console", column: str, counts: Mapping[str, int], rows: int) -> None:
    if counts:
        listed = ", ".join(f"{visible(v)} {n} ({n / rows:.1%})" for v, n in counts.items())
        _say(console, f"{column}: {listed}")


def _spreads(card: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What was measured, by name, where there is anything to measure."""
    for unit in ("numbers", "characters", "tokens"):
        for column, spread in card.get(unit, {}).items():
            if spread["count"]:
                yield column if unit == "numbers" else f"{column} {unit}", spread


def _spread_table(spreads: Mapping[str, Mapping[str, Any]]) -> "Table":
    from rich.table import Table

    shown = ("mean", "min", "p50", "p95", "max")
    table = Table(box=None, padding=(0, 0, 0, 2), header_style="dim")
    table.add_column()
    for name in (*shown, "rows"):
        table.add_column(name, justify="right")
    for name, spread in spreads.items():
        values = [_number(spread[key]) for key in shown]
        table.add_row(visible(name), *values, f"{spread['count']:,}")
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
