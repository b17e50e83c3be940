"""A judge card in lines: estimates with intervals, confusion, failures, attacks."""

from collections.abc import Sequence

from rich.table import Table

from pipeline.display.console import Console
from schemas.results.base import Estimate
from schemas.results.judge_card import Attack, JudgeCard


def show_card(card: JudgeCard) -> None:
    """Print the card: estimates with intervals, confusion with ties, failures, people."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{card.judge}: {card.n_scored:,} of {card.n:,} comparisons scored")
    if card.pointwise:
        console.print("each completion was rated by itself: the order shown plays no part")
    table = Table("", "value", "95% interval", "n", box=None, padding=(0, 2, 0, 0))
    for label, found in card.shown().values():
        if found.value is None:
            continue
        low, high = found.ci_low, found.ci_high
        shown = _points if label.endswith(", points") else _share
        interval = "" if low is None or high is None else f"{shown(low)} to {shown(high)}"
        table.add_row(label, shown(found.value), interval, f"{found.n:,}" if found.n else "")
    console.print(table)
    for label, said in card.confusion.items():
        counts = ", ".join(f"{name} {count:,}" for name, count in said.items())
        console.print(f"labelled {label}, judged: {counts}")
    for reason, count in card.unscored_rate.by_reason.items():
        console.print(f"unscored: {reason} {count:,}")
    if card.attacks:
        _show_attacks(card.attacks, console)


def _share(value: float) -> str:
    return f"{value:.3f}"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _show_attacks(attacks: Sequence[Attack], console: Console) -> None:
    """The shift of the attacked completion's score, in points."""

    def said(found: Estimate) -> str:
        if found.value is None or found.ci_low is None or found.ci_high is None:
            return "-"
        return f"{100 * found.value:+.1f} ({100 * found.ci_low:+.1f} to {100 * found.ci_high:+.1f})"

    table = Table("attack", "", "neutralised", "raw", box=None, padding=(0, 2, 0, 0))
    for row in attacks:
        table.add_row(row.group, row.name, said(row.neutralised.both), said(row.raw.both))
    console.print("points by which a text moves the score of the completion it stands in:")
    console.print(table)
