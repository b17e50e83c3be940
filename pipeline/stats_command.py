"""The stats command: data cards of a directory's tables, or of one, as JSON or in few lines."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


def stats(
    what: Annotated[
        str,
        typer.Argument(help="A stage, a table as stage/table or table, a folder or Parquet file."),
    ] = "ingest",
    run_dir: Annotated[
        Path, typer.Option("--run-dir", "-d", help="The run directory to look into.")
    ] = Path("runs/food"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")] = False,
) -> None:
    """Show the data card of tables: sources, labels, ties, lengths, duplicates and rejects."""
    from evals.data_card import data_card

    cards = {path.stem: data_card(path) for path in tables_of(what, run_dir)}
    if as_json:
        typer.echo(json.dumps(cards, ensure_ascii=False))
    else:
        show_cards(cards)


def tables_of(what: str, run_dir: Path) -> list[Path]:
    """The Parquet files of a folder or stage, else the one table that `what` names.

    Raises:
        MissingInputError: neither a folder of tables nor a table.
    """
    from pipeline.show import find_table

    for folder in (Path(what), run_dir / what):
        found = sorted(folder.glob("*.parquet"))
        if found:
            return found
    return [find_table(what, run_dir)]


def show_cards(cards: Mapping[str, Mapping[str, Any]]) -> None:
    """Print every card: rows, counts with shares, and a line per number."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    for name, card in cards.items():
        console.print(f"{name}: {card['rows']} rows", style="bold")
        for column, counts in card["counts"].items():
            _show_counts(console, column, counts, card["rows"])
        for column, spread in card["numbers"].items():
            _show_spread(console, column, spread)
        for column, spread in card["characters"].items():
            _show_spread(console, f"{column} characters", spread)
        if card.get("prompts_repeated"):
            console.print(f"  rows that repeat a prompt: {card['prompts_repeated']}")
        if card.get("chosen_longer") is not None:
            console.print(f"  chosen is the longer: {card['chosen_longer']:.1%}")


def _show_counts(console: "Console", column: str, counts: Mapping[str, int], rows: int) -> None:
    from pipeline.show import visible

    if counts:
        listed = ", ".join(f"{visible(v)} {n} ({n / rows:.1%})" for v, n in counts.items())
        console.print(f"  {column}: {listed}")


def _show_spread(console: "Console", column: str, spread: Mapping[str, Any]) -> None:
    if spread["count"]:
        values = ", ".join(f"{n} {v:.4g}" for n, v in spread.items() if n != "count")
        console.print(f"  {column}: {values} ({spread['count']} values)")
