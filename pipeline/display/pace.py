"""How much is done, how fast of late, how long the rest takes; and a beat that keeps it shown."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Units counted this soon were done by an earlier, interrupted run: they say nothing about speed.
_AT_ONCE_SECONDS = 0.1
_MARKS = 20
_SECONDS_BETWEEN_MARKS = 1.0


class Pace:
    """Counts what is finished and what is under way, and knows the rate of the last while.

    The rate is that between the oldest and the newest of a few marks, which are at least a second
    apart: of the last twenty seconds where work comes in drops, of longer where it comes in heaps.
    """

    def __init__(self, total: int | None, now: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.done = 0
        self._under_way = 0.0
        self._now = now
        self._started = now()
        self._marks: deque[tuple[float, float]] = deque([(self._started, 0.0)], maxlen=_MARKS)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return self._now() - self._started

    @property
    def amount(self) -> float:
        """Units done or under way."""
        amount = self.done + self._under_way
        return amount if self.total is None else min(amount, self.total)

    def advance(self, units: int = 1) -> None:
        """Count units as finished; what was under way of them is no longer."""
        self.done += units
        self._under_way = max(0.0, self._under_way - units)
        self._mark(found=self.seconds < _AT_ONCE_SECONDS)

    def under_way(self, units: float) -> None:
        """Count units as being worked on."""
        self._under_way += units
        self._mark()

    def _mark(self, found: bool = False) -> None:
        if found:
            self._marks[0] = (self._started, self.amount)
        elif len(self._marks) == 1 or self._now() - self._marks[-1][0] >= _SECONDS_BETWEEN_MARKS:
            self._marks.append((self._now(), self.amount))

    def rate(self) -> float | None:
        """Units a second of late; None before the first."""
        (first, before), (last, marked) = self._marks[0], self._marks[-1]
        amount = self.amount
        # Since the newest mark no more than what has come without one; silence counts as time
        # when it is longer than usual.
        usual = (last - first) / max(1, len(self._marks) - 1)
        end = max(last, self._now() - usual) if amount == marked else self._now()
        if amount <= before or end <= first:
            return None
        return (amount - before) / (end - first)

    def left(self) -> float | None:
        """Seconds that the rest takes at this rate; None where nobody knows, or at the end."""
        rate = self.rate()
        if not self.total or rate is None or self.amount >= self.total:
            return None
        return (self.total - self.amount) / rate


@contextmanager
def every(seconds: float, call: Callable[[], None]) -> Iterator[None]:
    """Call a function again and again in the background while the block runs."""
    over = threading.Event()

    def again() -> None:
        while not over.wait(seconds):
            call()

    thread = threading.Thread(target=again, name="prefline-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def pace_words(pace: Pace) -> str:
    """Rate and time left, such as `12.3/s, 29 s left`; empty where nothing is known."""
    rate, left = pace.rate(), pace.left()
    said = []
    if rate is not None:
        slow = rate < 0.1
        said.append(f"{rate * 3600:,.0f}/h" if slow else f"{rate:,.1f}/s")
    if left is not None:
        said.append(f"{duration(left)} left")
    return ", ".join(said)
