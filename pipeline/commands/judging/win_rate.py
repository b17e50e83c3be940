"""The win-rate command: a report from saved verdicts and nothing else, as JSON or in few lines."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from evals.win_rate.win_rate import Measure

if TYPE_CHECKING:
    from rich.table import Table

_OTHER_RATES = {
    "discrete": "discrete",
    "length_controlled": "length-controlled",
    "length_matched": "length-matched",
}


def win_rate(
    file: Annotated[
        Path, typer.Argument(help="A run's verdicts.parquet, or AlpacaEval's annotations.")
    ],
    model: Annotated[
        str | None, typer.Option(help="Which model, where annotations are of several.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="Another model of the file, compared prompt by prompt. Repeatable."),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Which judge, where verdicts are of several.")
    ] = None,
    headline: Annotated[
        Measure,
        typer.Option(help="The measure that decides, declared beforehand."),
    ] = "win_rate",
    instructions: Annotated[
        Path | None, typer.Option(help="AlpacaEval's instructions with difficulty, Parquet.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of the length regression's calibration rows.")
    ] = None,
    join: Annotated[
        Literal["id", "position"],
        typer.Option(help="How difficulty finds its row; position repeats published numbers."),
    ] = "id",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")] = False,
) -> None:
    """Recompute win rates, the verdict and its warnings from saved verdicts."""
    from evals.files.verdicts import read_judged
    from evals.win_rate.differences import differences_json
    from evals.win_rate.report import win_rate_report
    from evals.win_rate.win_rate import prompt_scores

    judged = read_judged(
        file,
        judge=judge,
        model=model,
        instructions=instructions,
        calibration=calibration,
        join=join,
    )
    report = {"judge": judged.verdicts[0]["judge"], **win_rate_report(judged, headline)}
    if against:
        others = {name: read_judged(file, model=name).verdicts for name in against}
        scores = {name: prompt_scores(verdicts) for name, verdicts in others.items()}
        report["differences"] = differences_json(prompt_scores(judged.verdicts), scores)
    if as_json:
        typer.echo(json.dumps(report, allow_nan=False))
    else:
        show_report(report)


def show_report(report: Mapping[str, Any]) -> None:
    """Print the rates side by side, the verdict in words, and every warning."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, soft_wrap=True)
    table = Table("", box=None, padding=(0, 2, 0, 0))
    for column in ("rate", "95% interval", "SE, points", "n"):
        table.add_column(column, justify="right")
    _add(table, "win rate", report)
    for key, name in _OTHER_RATES.items():
        _add(table, name, report[key])
    console.print(table)
    counts = "{n_wins:,} won, {n_losses:,} lost, {n_ties:,} tied, {n_unscored:,} unscored"
    console.print(counts.format(**report))
    console.print(report["statement"])
    for name, found in report.get("differences", {}).items():
        console.print(_difference(name, found))
    for finding in report["detectors"]:
        console.print(f"warning: {finding['name']}: {finding['detail']}")


def _add(table: "Table", name: str, rate: Mapping[str, Any]) -> None:
    if rate["win_rate"] is None:
        table.add_row(name, "none", str(rate.get("reason") or ""), "", f"{rate['n']:,}")
        return
    error = rate["standard_error"]
    interval = f"{rate['ci_low']:.2%} to {rate['ci_high']:.2%}"
    spread = "" if error is None else f"{100 * error:.2f}"
    table.add_row(name, f"{rate['win_rate']:.2%}", interval, spread, f"{rate['n']:,}")


def _difference(name: str, found: Mapping[str, Any]) -> str:
    d = found["difference"]
    return (
        f"against {name}: {100 * d['value']:+.2f} points (95% interval {100 * d['ci_low']:+.2f} "
        f"to {100 * d['ci_high']:+.2f}, p {found['p_holm']:.4f} by Holm, {d['n']:,} prompts): "
        f"{found['verdict']}"
    )
