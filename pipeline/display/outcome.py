"""What came out of a finished run: the conclusion, all benchmarks, warnings, cost, the page."""

import json
import shlex
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from pipeline.display.console import Console
from pipeline.display.terminal_text import visible
from schemas.errors import DataError
from schemas.manifest import read_manifest

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
_WARNINGS_SHOWN = 12
# The task whose rates of policy and baseline are those of the world.
_OF_THE_WORLD = ("food_preference", ("policy", "baseline"))


def read_summary(run_dir: Path) -> dict[str, Any] | None:
    """The report's summary of a run, or None where no report has been made."""
    path = run_dir / "report" / "summary.json"
    if not path.exists():
        return None
    summary: dict[str, Any] = json.loads(path.read_text())
    return summary


def outcome_table(run_dir: Path, summary: Mapping[str, Any]) -> None:
    """Print the headline numbers with their 95% intervals, what they say, and where the page is."""
    console = Console(highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    for column in ("value", "95% interval", "n"):
        table.add_column(column, justify="right")
    for label, rate in [*_found(summary), *_benchmarks(summary)]:
        table.add_row(
            Text(visible(label)), _number(rate["value"]), _interval(rate), f"{rate['n']:,}"
        )
    if table.row_count:
        console.print(table)
    for paragraph in _paragraphs(run_dir, summary):
        console.print(Text(visible(paragraph)))
    console.print(Text(f"\nReport: {run_dir / 'report' / 'index.html'}"))


def _interval(rate: Mapping[str, Any]) -> str:
    low, high = rate.get("ci_low"), rate.get("ci_high")
    return "" if low is None or high is None else f"{_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    """Three decimals; what rounds to nothing has no sign."""
    text = f"{value:.3f}"
    return "0.000" if text == "-0.000" else text


def _paragraphs(run_dir: Path, summary: Mapping[str, Any]) -> Iterator[str]:
    yield from _statements(run_dir)
    trained = (run_dir / "train" / "manifest.json").is_file()
    is_round = run_dir.name.startswith("round-")  # seeds of rounds are refused
    if trained and not is_round and not (run_dir / "sweep").is_dir():
        again = shlex.join(["prefline", "run", "--run-dir", str(run_dir), "--seeds", "3"])
        yield f"of one training run: `{again}` tells what another would move"
    for task, model, error in _failed(summary):
        yield f"not measured: {task}, {model}: {error}"
    yield from _warnings(summary)
    cost = _cost(run_dir)
    if cost:
        yield f"\ncost of the judge: {cost:,.2f}, by the prices in [runtime.judge_server]"


def _statements(run_dir: Path) -> Iterator[str]:
    """What each judge's verdicts come to, in a sentence."""
    path = run_dir / "evaluate" / "win_rates.json"
    if path.exists():
        for role, rate in json.loads(path.read_text()).items():
            if rate.get("statement"):
                yield f"by the {role}, {rate.get('judge')}: {rate['statement']}"


def _warnings(summary: Mapping[str, Any]) -> Iterator[str]:
    """The warnings of all stages once more, the same one once."""
    said = list(dict.fromkeys(_warning(one) for one in summary.get("warnings", [])))
    if said:
        yield f"\n{len(said)} warning{'s' if len(said) > 1 else ''}:"
    yield from (f"- {one}" for one in said[:_WARNINGS_SHOWN])
    if len(said) > _WARNINGS_SHOWN:
        yield f"- and {len(said) - _WARNINGS_SHOWN} more, on the page"


def _warning(one: Mapping[str, Any]) -> str:
    stage, message = one.get("stage", ""), one.get("message", "")
    return message if message.startswith(f"{stage}:") else f"{stage}: {message}"


def _cost(run_dir: Path) -> float:
    """What the judges of all stages have cost, in the prices' currency."""
    total = 0
    for folder in sorted(run_dir.iterdir()) if run_dir.is_dir() else ():
        try:
            manifest = read_manifest(folder)
        except DataError:
            continue
        total += manifest.counts.get("judge_cost_millionths", 0) if manifest else 0
    return total / 1e6


def _tasks(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    tasks: list[Mapping[str, Any]] = summary.get("benchmarks", {}).get("tasks", [])
    return tasks


def _benchmarks(summary: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every measure of every task on every model, the models of one measure together."""
    task, models = _OF_THE_WORLD if summary.get("world") else ("", ())
    measured = [
        one
        for one in _tasks(summary)
        if one.get("value") is not None and not (one["task"] == task and one["model"] in models)
    ]
    ordered = sorted(measured, key=_measure)  # stable: models keep their order
    for names, of_models in groupby(ordered, key=_measure):
        for one in of_models:
            yield f"{' '.join(filter(None, names))}, {one['model']}", one


def _measure(one: Mapping[str, Any]) -> tuple[str, str, str]:
    return one["task"], one.get("scorer") or "", one.get("metric") or ""


def _failed(summary: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Benchmarks that could not run to their end: task, model, and why in one line."""
    for entry in _tasks(summary):
        if entry.get("error"):
            yield entry["task"], entry["model"], entry["error"]


def _found(summary: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path, label in _LINES:
        node: Any = summary
        for key in path.split("."):
            node = node.get(key) if isinstance(node, dict) else None
        if isinstance(node, dict) and node.get("value") is not None:
            yield label, node
