"""The win-rate command: a report from saved verdicts and nothing else, as JSON or in few lines."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.display.terminal_text import say_json
from schemas.errors import MissingInputError
from schemas.results.measures import MEASURES, Measure
from schemas.results.win_rates import (
    HumanWinRate,
    PeopleAgreement,
    PolicyDifference,
    Rate,
    WinRateReport,
)

if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.display.console import Console


def win_rate(
    file: Annotated[
        Path, typer.Argument(help="A run, its verdicts.parquet, or AlpacaEval's annotations.")
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
        Measure | None,
        typer.Option(help="The measure that decides; by default the one that was declared."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="What people said of some of the pairs, JSON lines: anchors the rate."),
    ] = None,
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
    from evals.audit.labels import read_labels
    from evals.files.verdicts import read_declared, read_judged
    from evals.win_rate.differences import policy_differences
    from evals.win_rate.human import human_win_rate
    from evals.win_rate.report import win_rate_report
    from evals.win_rate.win_rate import prompt_scores

    file = _verdicts_of(file)
    judged = read_judged(
        file,
        judge=judge,
        model=model,
        instructions=instructions,
        calibration=calibration,
        join=join,
    )
    written = read_declared(file)
    declared = written.headline if written else None
    report = win_rate_report(judged, headline or declared or "win_rate")
    update = {"declared_headline": declared}
    human = human_win_rate(judged.verdicts, read_labels(labels), labels) if labels else None
    report = report.model_copy(update=update | {"human": human})
    others = {name: read_judged(file, model=name).verdicts for name in against or ()}
    scores = {name: prompt_scores(verdicts) for name, verdicts in others.items()}
    differences = policy_differences(prompt_scores(judged.verdicts), scores)
    if as_json:
        name = judged.verdicts[0]["judge"]
        found = {"judge": name, "judge_name": name, **report.to_json()}
        if human:
            found |= {who: getattr(human, who).to_json() for who in ("judge", "people", "anchored")}
        if against:
            found["differences"] = {name: d.to_json() for name, d in differences.items()}
        say_json(json.dumps(found, allow_nan=False))
    else:
        show_report(report, differences)


def _verdicts_of(place: Path) -> Path:
    """The verdicts of a run directory, or of a stage's folder; a file as it is.

    Raises:
        MissingInputError: a folder without any.
    """
    if not place.is_dir():
        return place
    homes = (place / "evaluate" / "verdicts.parquet", place / "verdicts.parquet")
    found = next((home for home in homes if home.is_file()), None)
    if found is None:
        raise MissingInputError(f"{place}: no verdicts of evaluate there; run it first")
    return found


def show_report(report: WinRateReport, differences: Mapping[str, PolicyDifference]) -> None:
    """Print the rates side by side, the verdict in words, and every warning."""
    from rich.table import Table

    from pipeline.display.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    table = Table("", box=None, padding=(0, 2, 0, 0))
    for column in ("rate", "95% interval", "SE, points", "n"):
        table.add_column(column, justify="right")
    _add(table, "win rate", Rate(**dict(report)))
    _add(table, "discrete", report.discrete)
    _add(table, "length-controlled", report.length_controlled)
    _add(table, "length-matched", report.length_matched)
    for name, one in report.criteria.items():
        _add(table, f"by {name}", Rate(**dict(one) | {"win_rate": one.value}))
    console.print(table)
    console.print(
        f"{report.n_wins:,} won, {report.n_losses:,} lost, {report.n_ties:,} tied, "
        f"{report.n_unscored:,} unscored"
    )
    if report.pointwise:
        console.print("each completion was rated by itself: the order shown plays no part")
    for line in _ratings(report):
        console.print(line)
    console.print(report.statement)
    declared = report.declared_headline
    if declared and report.headline and report.headline.measure != declared:
        console.print(
            f"declared before any verdict: {MEASURES[declared]}; what decides here was chosen "
            "afterwards"
        )
    if report.human:
        _show_human(console, report.human)
    for name, found in differences.items():
        console.print(_difference(name, found))
    for finding in report.detectors:
        console.print(f"warning: {finding.name}: {finding.detail}")


def _ratings(report: WinRateReport) -> list[str]:
    """Mean ratings of both sides, and what had no reference answer."""
    lines = []
    if (sides := report.mean_ratings) is not None:
        lines.append(
            f"mean rating {sides.policy.value:.2f} against {sides.baseline.value:.2f}, 1 to 10, "
            f"{sides.policy.n:,} prompts"
        )
    if report.n_without_reference:
        lines.append(f"{report.n_without_reference:,} prompts have no reference answer")
    return lines


def _show_human(console: "Console", human: HumanWinRate) -> None:
    from rich.table import Table

    table = Table("win rate by", box=None, padding=(0, 2, 0, 0))
    for column in ("rate", "95% interval", "n"):
        table.add_column(column, justify="right")
    for who, found in (
        ("the judge", human.judge),
        ("people", human.people),
        ("the judge, anchored in people", human.anchored),
    ):
        shown = "none" if found.rate is None else f"{found.rate:.2%}"
        interval = "" if found.ci_low is None else f"{found.ci_low:.2%} to {found.ci_high:.2%}"
        table.add_row(who, shown, interval, f"{found.n:,}")
    console.print(table)
    console.print(human.statement)
    for name, title in PeopleAgreement.labels().items():
        value = getattr(human.agreement, name)
        if value is not None and human.agreement.n_pairs:
            console.print(f"{title}: {value:,.3g}")
    if human.n_skipped or human.n_unknown:
        console.print(f"{human.n_skipped:,} labels skip, {human.n_unknown:,} are of other pairs")


def _add(table: "Table", name: str, rate: Rate | None) -> None:
    if rate is None:
        return
    if rate.win_rate is None:
        table.add_row(name, "none", rate.reason or "", "", f"{rate.n:,}")
        return
    error = rate.standard_error
    interval = f"{rate.ci_low:.2%} to {rate.ci_high:.2%}"
    spread = "" if error is None else f"{100 * error:.2f}"
    table.add_row(name, f"{rate.win_rate:.2%}", interval, spread, f"{rate.n:,}")


def _difference(name: str, found: PolicyDifference) -> str:
    d = found.difference
    return (
        f"against {name}: {100 * (d.value or 0):+.2f} points (95% interval "
        f"{100 * (d.ci_low or 0):+.2f} to {100 * (d.ci_high or 0):+.2f}, "
        f"p {found.p_holm:.4f} by Holm, {d.n:,} prompts): {found.verdict}"
    )
