"""What a person sees while a stage works: a live display on a terminal, plain lines elsewhere.

All of it goes to stderr; stdout is for data.
"""

import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from schemas.stage import Progress, Task

_ROWS_SHOWN = 8
_PLAIN_SECONDS = 5.0
_NUMBER_WIDTH = 8  # of what show_number writes, but for huge counts
# The columns of the live table, in this order, as far as a stage reports them and they fit.
_COLUMNS = (
    "step",
    "loss",
    "eval_loss",
    "rewards/accuracies",
    "rewards/margins",
    "rewards/chosen",
    "rewards/rejected",
    "logps/chosen",
    "learning_rate",
    "tokens_per_second",
)


def make_progress() -> Progress:
    """The display that fits stderr."""
    console = Console(stderr=True)
    return LiveProgress(console) if console.is_terminal else PlainProgress()


def show_number(value: float | int | str) -> str:
    """A number in the few characters that a table column has."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) or (abs(value) >= 1000 and float(value).is_integer()):
        return f"{value:,.0f}"
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.2e}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"


def fitting_columns(columns: Sequence[str], width: int) -> list[str]:
    """The first columns that fit side by side into `width` characters, one at least."""
    ends = accumulate(max(len(column), _NUMBER_WIDTH) + 2 for column in columns)
    return [c for c, end in zip(columns, ends, strict=True) if end <= width] or [*columns[:1]]


class _LiveTask:
    """A bar, and below it the newest rows of numbers."""

    def __init__(self, title: str, total: int | None, unit: str, console: Console) -> None:
        self._bars = RichProgress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._id = self._bars.add_task(title, total=total)
        self._width = console.width
        self._rows: deque[Mapping[str, float | int | str]] = deque(maxlen=_ROWS_SHOWN)

    def advance(self, units: int = 1) -> None:
        self._bars.advance(self._id, units)

    def metrics(self, values: Mapping[str, float | int | str]) -> None:
        self._rows.append(dict(values))

    def __rich__(self) -> Group:
        return Group(self._bars, self._table()) if self._rows else Group(self._bars)

    def _table(self) -> Table:
        present = {key for row in self._rows for key in row}
        known = [c for c in _COLUMNS if c in present]
        columns = fitting_columns(known or sorted(present), self._width)
        table = Table(box=None, padding=(0, 1), header_style="dim")
        for column in columns:
            table.add_column(column, justify="right")
        for row in self._rows:
            table.add_row(*(Text(show_number(row[c])) if c in row else "" for c in columns))
        return table


class LiveProgress:
    """Bars and a table of the newest numbers, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def task(self, title: str, total: int | None, unit: str) -> Iterator[Task]:
        """Show a bar while the block runs; its last state stays on the screen."""
        task = _LiveTask(title, total, unit, self._console)
        with Live(task, console=self._console, refresh_per_second=4):
            yield task

    def note(self, message: str) -> None:
        """Print a dim line above the bar."""
        self._console.print(Text(message, style="dim"))

    def warn(self, message: str) -> None:
        """Print a yellow line above the bar."""
        self._console.print(Text(f"warning: {message}", style="yellow"))


class _PlainTask:
    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done = 0
        self._values: dict[str, float | int | str] = {}
        self._started = self._shown = time.monotonic()

    def advance(self, units: int = 1) -> None:
        self._done += units
        if time.monotonic() - self._shown >= _PLAIN_SECONDS:
            self.show()

    def metrics(self, values: Mapping[str, float | int | str]) -> None:
        self._values = dict(values)

    def show(self) -> None:
        self._shown = time.monotonic()
        total = f"/{self._total}" if self._total is not None else ""
        numbers = " ".join(f"{k}={show_number(v)}" for k, v in self._values.items())
        seconds = f"{self._shown - self._started:.0f} s"
        line = f"{self._title}: {self._done}{total} {self._unit}, {seconds} {numbers}"
        sys.stderr.write(line.rstrip() + "\n")
        sys.stderr.flush()


class PlainProgress:
    """A line every few seconds, for files and pipes."""

    @contextmanager
    def task(self, title: str, total: int | None, unit: str) -> Iterator[Task]:
        """Write lines while the block runs, and one at its end."""
        task = _PlainTask(title, total, unit)
        yield task
        task.show()

    def note(self, message: str) -> None:
        """Write a line."""
        sys.stderr.write(message + "\n")

    def warn(self, message: str) -> None:
        """Write a line that says it is a warning."""
        sys.stderr.write(f"warning: {message}\n")
