"""What came out of a finished run, in a few lines."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

# What is worth a line, where the run has it: path in summary.json, and what to call it.
_LINES = (
    ("world.preferred_rate.baseline", "preferred answers, baseline"),
    ("world.preferred_rate.policy", "preferred answers, policy"),
    ("world.well_formed_rate.baseline", "well-formed answers, baseline"),
    ("world.well_formed_rate.policy", "well-formed answers, policy"),
    ("judge.accuracy", "judge's accuracy on held-out labels"),
    ("win_rate.judge", "win rate over the baseline, by the judge"),
    ("win_rate.truth", "win rate over the baseline, by the truth"),
)


def read_summary(run_dir: Path) -> dict[str, Any] | None:
    """The report's summary of a run, or None where no report has been made."""
    path = run_dir / "report" / "summary.json"
    if not path.exists():
        return None
    summary: dict[str, Any] = json.loads(path.read_text())
    return summary


def outcome_table(run_dir: Path, summary: Mapping[str, Any]) -> None:
    """Print the headline numbers with their 95% intervals, and where the page is."""
    console = Console()
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for column in ("value", "95% interval", "n"):
        table.add_column(column, justify="right")
    for label, rate in _found(summary):
        interval = f"{rate['ci_low']:.3f} to {rate['ci_high']:.3f}"
        table.add_row(label, f"{rate['value']:.3f}", interval, f"{rate['n']:,}")
    if table.row_count:
        console.print(table)
    for statement in _statements(run_dir):
        console.print(statement, highlight=False, markup=False)
    for task, model, error in _failed(summary):
        console.print(f"not measured: {task}, {model}: {error}", highlight=False, markup=False)
    console.print(f"\nReport: {run_dir / 'report' / 'index.html'}", highlight=False)


def _statements(run_dir: Path) -> Iterator[str]:
    """What each judge's verdicts come to, in a sentence."""
    path = run_dir / "evaluate" / "win_rates.json"
    if path.exists():
        for role, rate in json.loads(path.read_text()).items():
            if rate.get("statement"):
                yield f"by the {role}, {rate.get('judge')}: {rate['statement']}"


def _failed(summary: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Benchmarks that could not run to their end: task, model, and why in one line."""
    for entry in summary.get("benchmarks", {}).get("tasks", []):
        if entry.get("error"):
            yield entry["task"], entry["model"], entry["error"]


def _found(summary: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path, label in _LINES:
        node: Any = summary
        for key in path.split("."):
            node = node.get(key) if isinstance(node, dict) else None
        if isinstance(node, dict) and node.get("value") is not None:
            yield label, node
