"""What a person sees while a stage works: a live display on a terminal, plain lines elsewhere.

All of it goes to stderr; stdout is for data.
"""

import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from evals.pulse import heard_by
from pipeline.display.console import Console
from pipeline.display.pace import Pace, duration, every, pace_words
from pipeline.display.terminal_text import visible
from pipeline.display.training_table import (
    MEASURED,
    TRAINING,
    Column,
    Values,
    in_words,
    is_training,
    of_measuring,
    of_training,
    show_number,
    table_of,
)
from schemas.stage import Progress, Task

_ROWS_SHOWN = 6
_PLAIN_SECONDS = 5.0
_FIRST_SECONDS = 1.0
_TICK_SECONDS = 0.5


def make_progress() -> Progress:
    """The display that fits stderr."""
    console = Console(stderr=True)
    return LiveProgress(console) if console.is_terminal else PlainProgress()


class _LiveTask:
    """A bar, and below it the newest numbers: of training steps, and of what is held out."""

    def __init__(self, title: str, total: int | None, unit: str, console: Console) -> None:
        self._bars = RichProgress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[done]}"),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("{task.fields[pace]}"),
            console=console,
        )
        self.pace = Pace(total)
        self._id = self._bars.add_task(title, total=total, done="", pace="")
        self._console = console
        self._counts: dict[str, float | int | str] = {}
        self._steps: deque[Values] = deque(maxlen=_ROWS_SHOWN)
        self._first_measured: Values = {}
        self._measured: deque[Values] = deque(maxlen=_ROWS_SHOWN - 1)

    def advance(self, units: int = 1) -> None:
        self.pace.advance(units)

    def metrics(self, values: Values) -> None:
        if not is_training(values):
            self._counts = dict(values)
            return
        if step := of_training(values):
            self._steps.append(step)
        if measured := of_measuring(values):
            if self._first_measured:
                self._measured.append(measured)
            else:
                self._first_measured = measured

    def __rich__(self) -> Group:
        pace = self.pace
        self._bars.update(
            self._id, completed=pace.amount, done=_of_total(pace), pace=pace_words(pace)
        )
        # The start is what every later measurement is compared with: it stays.
        measured = [*filter(None, [self._first_measured]), *self._measured]
        parts: list[RenderableType] = [self._bars]
        parts += self._part("", list(self._steps), TRAINING)
        parts += self._part("held out", measured, MEASURED)
        if self._counts:
            parts.append(Text(_pairs(self._counts), style="dim"))
        return Group(*parts)

    def _part(
        self, title: str, rows: Sequence[Values], columns: Sequence[Column]
    ) -> list[RenderableType]:
        if not rows:
            return []
        table = table_of(rows, columns, self._console.width)
        return [Text(title, style="bold"), table] if title else [table]


class LiveProgress:
    """Bars and a table of the newest numbers, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def task(self, title: str, total: int | None, unit: str) -> Iterator[Task]:
        """Show a bar while the block runs; its last state stays on the screen."""
        task = _LiveTask(title, total, unit, self._console)
        with (
            heard_by(task.pace.under_way),
            Live(task, console=self._console, refresh_per_second=4),
        ):
            yield task

    def note(self, message: str) -> None:
        """Print a dim line above the bar."""
        self._console.print(Text(visible(message), style="dim"))

    def warn(self, message: str) -> None:
        """Print a yellow line above the bar."""
        self._console.print(Text(visible(f"warning: {message}"), style="yellow"))


class _PlainTask:
    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self.pace = Pace(total)
        self._title, self._unit = title, unit
        self._values: Values = {}
        self._shown = 0.0

    def advance(self, units: int = 1) -> None:
        self.pace.advance(units)

    def metrics(self, values: Values) -> None:
        if measured := of_measuring(values) if is_training(values) else {}:
            _write(f"{self._title}: held out: {in_words(measured, MEASURED)}")
        if values := of_training(values) if is_training(values) else values:
            self._values = dict(values)

    def show_in_time(self) -> None:
        """Show a line where the last is some seconds old, the first one as soon as there is one."""
        seconds = self.pace.seconds
        is_first = not self._shown and self.pace.amount > 0 and seconds >= _FIRST_SECONDS
        if is_first or seconds - self._shown >= _PLAIN_SECONDS:
            self.show()

    def show(self) -> None:
        pace = self.pace
        self._shown = pace.seconds
        numbers = (
            in_words(self._values, TRAINING[1:])
            if is_training(self._values)
            else _pairs(self._values)
        )
        times = ", ".join(filter(None, [duration(self._shown), pace_words(pace)]))
        line = f"{self._title}: {_of_total(pace)} {self._unit}, {times}"
        _write(f"{line}: {numbers}" if numbers else line)


def _of_total(pace: Pace) -> str:
    return f"{int(pace.amount):,}{f'/{pace.total:,}' if pace.total is not None else ''}"


def _pairs(values: Mapping[str, float | int | str]) -> str:
    return " ".join(f"{k}={show_number(v)}" for k, v in values.items())


def _write(line: str) -> None:
    sys.stderr.write(visible(line) + "\n")
    sys.stderr.flush()


class PlainProgress:
    """A line every few seconds, for files and pipes."""

    @contextmanager
    def task(self, title: str, total: int | None, unit: str) -> Iterator[Task]:
        """Write lines while the block runs, and one at its end."""
        task = _PlainTask(title, total, unit)
        with heard_by(task.pace.under_way), every(_TICK_SECONDS, task.show_in_time):
            yield task
        task.show()

    def note(self, message: str) -> None:
        """Write a line."""
        _write(message)

    def warn(self, message: str) -> None:
        """Write a line that says it is a warning."""
        _write(f"warning: {message}")
