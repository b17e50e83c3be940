"""The judge-card command: any judge measured on any labelled comparisons, as JSON or in lines."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.results.base import Estimate
from schemas.results.judge_card import Attack, JudgeCard

if TYPE_CHECKING:
    from rich.console import Console

    from evals.files.labelled import LabelledFile


def judge_card(
    file: Annotated[
        Path,
        typer.Argument(help="A comparisons table, or Auto-J's, HHH's or JudgeBench's pairs."),
    ],
    judge: Annotated[
        str | None,
        typer.Option(
            help="A kind (length), its settings as JSON, or a folder of judge.json; "
            "with --verdicts, whose verdicts."
        ),
    ] = None,
    verdicts: Annotated[
        Path | None,
        typer.Option(help="Saved verdicts instead: verdicts.parquet, or JudgeBench's judgements."),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Of a comparisons table: train, test or all.")
    ] = "test",
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many comparisons, a fair sample.")
    ] = None,
    attacks: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Measure on so many pairs (50 is a good number) how far texts that speak to the "
            "judge move it; the price of a judge that is paid for is said first.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")] = False,
) -> None:
    """Measure a judge against labels: agreement, ties, bias for a place, calibration, failures."""
    from evals.files.labelled import read_labelled
    from evals.judge_card.card import build_card

    labelled = read_labelled(file, None if split == "all" else split)
    units = labelled.comparisons[:limit]
    known = {unit.comparison.comparison_id for unit in units}
    rows = _saved(verdicts, judge) if verdicts else _asked(judge, labelled, limit)
    mine = [row for row in rows if row["comparison_id"] in known]
    if verdicts:  # what nobody asked this judge is no failure of its
        asked = {row["comparison_id"] for row in mine}
        units = [unit for unit in units if unit.comparison.comparison_id in asked]
    first = mine[0] if mine else {"judge": judge or "", "judge_fingerprint": ""}
    card = build_card(
        units,
        mine,
        judge=first["judge"],
        kind=first["judge"].partition(":")[0],
        fingerprint=first["judge_fingerprint"],
    )
    if attacks and judge and not verdicts:
        card = card.model_copy(update={"attacks": _attacked(judge, labelled, attacks)})
    if as_json:
        typer.echo(json.dumps(card.to_json(), allow_nan=False))
    else:
        show_card(card)


def _asked(
    judge: str | None, labelled: "LabelledFile", limit: int | None
) -> Sequence[Mapping[str, Any]]:
    """Ask a judge about all comparisons, in both orders."""
    from evals.judges.judge_spec import named_judge
    from evals.judges.orders import judge_in_order
    from pipeline.display.progress import make_progress
    from schemas.errors import ConfigError
    from schemas.labels import BOTH_ORDERS
    from schemas.stage import Runtime

    if judge is None:
        raise ConfigError("--judge: say which judge, as in --judge length; or give --verdicts")
    opened = named_judge(judge, Runtime())
    shown = [unit.comparison for unit in labelled.comparisons[:limit]]
    rows: list[Mapping[str, Any]] = []
    with make_progress().task(f"verdicts by {opened.name}", 2 * len(shown), "verdicts") as task:
        for order in BOTH_ORDERS:
            for start in range(0, len(shown), 256):
                rows += judge_in_order(opened, shown[start : start + 256], order)
                task.advance(len(shown[start : start + 256]))
    return rows


def _attacked(judge: str, labelled: "LabelledFile", pairs: int) -> list[Attack]:
    """The attack table, its price said before it is paid."""
    from evals.judge_card.attacks import attack_cost, attack_table
    from evals.judges.interface import release
    from evals.judges.judge_spec import named_judge
    from schemas.stage import Runtime

    opened = named_judge(judge, Runtime())
    shown = [unit.comparison for unit in labelled.comparisons]
    cost = attack_cost(opened, shown, pairs)
    if cost:
        typer.echo(f"attacks: about {cost:.4g} in the unit of the prices", err=True)
    try:
        return attack_table(opened, shown, pairs)
    finally:
        release(opened)


def _saved(path: Path, judge: str | None) -> Sequence[Mapping[str, Any]]:
    """One judge's verdicts from a file of ours or of JudgeBench's."""
    from evals.files import judge_bench
    from evals.files.external_files import choose, read_columns
    from schemas.parquet import read_rows
    from schemas.tables import VERDICTS

    if set(judge_bench.COLUMNS) <= set(read_columns(path, ()).column_names):
        return judge_bench.read_judgements(path, judge)
    rows = read_rows(path, VERDICTS)
    chosen = choose(path, "judge", [row["judge"] for row in rows], judge)
    return [row for row in rows if row["judge"] == chosen]


def show_card(card: JudgeCard) -> None:
    """Print the card: estimates with intervals, confusion with ties, failures, people."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{card.judge}: {card.n_scored:,} of {card.n:,} comparisons scored")
    table = Table("", "value", "95% interval", "n", box=None, padding=(0, 2, 0, 0))
    for label, found in card.shown().values():
        if found.value is None:
            continue
        interval = "" if found.ci_low is None else f"{found.ci_low:.3f} to {found.ci_high:.3f}"
        table.add_row(label, f"{found.value:.3f}", interval, f"{found.n:,}" if found.n else "")
    console.print(table)
    for label, said in card.confusion.items():
        counts = ", ".join(f"{name} {count:,}" for name, count in said.items())
        console.print(f"labelled {label}, judged: {counts}")
    for reason, count in card.unscored_rate.by_reason.items():
        console.print(f"unscored: {reason} {count:,}")
    if card.attacks:
        _show_attacks(card.attacks, console)


def _show_attacks(attacks: Sequence[Attack], console: "Console") -> None:
    """The shift of the attacked completion's score, in points."""
    from rich.table import Table

    def said(found: Estimate) -> str:
        if found.value is None or found.ci_low is None or found.ci_high is None:
            return "-"
        return f"{100 * found.value:+.1f} ({100 * found.ci_low:+.1f} to {100 * found.ci_high:+.1f})"

    table = Table("attack", "", "neutralised", "raw", box=None, padding=(0, 2, 0, 0))
    for row in attacks:
        table.add_row(row.group, row.name, said(row.neutralised.both), said(row.raw.both))
    console.print("points by which a text moves the score of the completion it stands in:")
    console.print(table)
