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
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="Count tokens too: a tokenizer.json or a model's folder. Default: the run's own."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")] = False,
) -> None:
    """Show the data card of tables: sources, labels, ties, lengths, duplicates and rejects."""
    from evals.data_card import data_card
    from evals.token_lengths import find_tokenizer

    tables = tables_of(what, run_dir)
    if tokenizer is None and run_dir in tables[0].parents:
        tokenizer = find_tokenizer(run_dir)
    cards = {path.stem: data_card(path, tokenizer) for path in tables}
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
        if len(card.get("by_source") or {}) > 1:
            _show_sources(console, card["by_source"])
        for unit in ("numbers", "characters", "tokens"):
            for column, spread in card.get(unit, {}).items():
                _show_spread(console, column if unit == "numbers" else f"{column} {unit}", spread)
        if card.get("prompts_repeated"):
            console.print(f"  rows that repeat a prompt: {card['prompts_repeated']}")
        if card.get("chosen_longer") is not None:
            console.print(f"  chosen is the longer: {card['chosen_longer']:.1%}")


def _show_sources(console: "Console", sources: Mapping[str, Mapping[str, Any]]) -> None:
    """A line per source of comparisons."""
    from pipeline.show import visible

    for source, found in sources.items():
        said = [f"{found['rows']} rows", f"{found['ties']} ties"]
        if found["unlabelled"]:
            said.append(f"{found['unlabelled']} unlabelled")
        for key, words in (("a_share", "A preferred"), ("chosen_longer", "chosen is the longer")):
            if found[key] is not None:
                said.append(f"{words} {found[key]:.1%}")
        if found["strength"] is not None:
            said.append(f"mean strength {found['strength']:.3g}")
        console.print(f"  {visible(source)}: {', '.join(said)}")


def _show_counts(console: "Console", column: str, counts: Mapping[str, int], rows: int) -> None:
    from pipeline.show import visible

    if counts:
        listed = ", ".join(f"{visible(v)} {n} ({n / rows:.1%})" for v, n in counts.items())
        console.print(f"  {column}: {listed}")


def _show_spread(console: "Console", column: str, spread: Mapping[str, Any]) -> None:
    if spread["count"]:
        values = ", ".join(f"{n} {v:.4g}" for n, v in spread.items() if n != "count")
        console.print(f"  {column}: {values} ({spread['count']} values)")
