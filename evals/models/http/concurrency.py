"""How many calls a server may have in flight: found out by trying, as TCP does."""

import asyncio
from collections import deque
from collections.abc import Callable


class AdaptiveLimit:
    """Additive increase, multiplicative decrease, and a gate that stays shut while asked to wait.

    The limit doubles with every round of successes until the server is first too busy; from then
    on it grows by one a round, and halves at most once per round of overload: calls that were
    under way when it was cut do not cut it again.
    """

    def __init__(self, most: int, clock: Callable[[], float], start: int) -> None:
        """`clock` gives seconds; the limit begins at `start`, and is `most` at most."""
        self.in_flight = 0
        self.limit = float(min(start, most))
        self.peak = 0
        self.cuts = 0
        self._most = most
        self._clock = clock
        self._last_cut: float | None = None
        self._open_at = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> float:
        """Wait for a turn; returns when it began."""
        while True:
            pause = self._open_at - self._clock()
            if pause > 0:
                await asyncio.sleep(pause)
            elif self.in_flight < int(self.limit):
                self.in_flight += 1
                self.peak = max(self.peak, self.in_flight)
                return self._clock()
            else:
                turn = asyncio.get_running_loop().create_future()
                self._waiting.append(turn)
                await turn

    def release(self) -> None:
        """A call has ended, however it did."""
        self.in_flight -= 1
        self._wake()

    def succeeded(self) -> None:
        """The server took a call well."""
        step = 1.0 if self._last_cut is None else 1.0 / self.limit
        self.limit = min(float(self._most), self.limit + step)

    def overloaded(self, began: float, wait_seconds: float | None = None) -> None:
        """A call that began then was refused or not answered in time.

        `wait_seconds` is what the server asked everybody to wait, where it did.
        """
        now = self._clock()
        if self._last_cut is None or began >= self._last_cut:
            self.limit = max(1.0, self.limit / 2)
            self._last_cut = now
            self.cuts += 1
        if wait_seconds is not None:
            self._open_at = max(self._open_at, now + wait_seconds)

    def _wake(self) -> None:
        room = int(self.limit) - self.in_flight
        while self._waiting and room > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                room -= 1
