"""Calls that come one at a time, worked off together: for inspect-ai, which asks sample by sample.

The calls of a short while are collected and handed over as one batch. No engine is ever touched by
two threads, and everything that waits is waiting for it anyway.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio
import anyio.to_thread

COLLECT_SECONDS = 0.05

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class _Call(Generic[T, R]):
    item: T
    done: anyio.Event = field(default_factory=anyio.Event)
    answer: R | Exception | None = None


class Batcher(Generic[T, R]):
    """Collects items for `COLLECT_SECONDS` and gives them to `work`: one answer per item.

    `in_thread` is for work that runs an event loop of its own; batches still follow one another.
    """

    def __init__(
        self, work: Callable[[Sequence[T]], Sequence[R]], *, in_thread: bool = False
    ) -> None:
        self._work = work
        self._in_thread = in_thread
        self._turn = anyio.Lock()
        self._waiting: list[_Call[T, R]] = []

    async def ask(self, item: T) -> R | Exception:
        """The answer to one item; an exception of `work` is the answer to the whole batch."""
        call: _Call[T, R] = _Call(item)
        self._waiting.append(call)
        if len(self._waiting) == 1:
            # The first call of a batch leads it, to the end even if its own sample is cancelled.
            with anyio.CancelScope(shield=True):
                await anyio.sleep(COLLECT_SECONDS)
                await self._work_off()
        await call.done.wait()
        assert call.answer is not None
        return call.answer

    async def _work_off(self) -> None:
        calls, self._waiting = self._waiting, []
        if self._in_thread:
            async with self._turn:
                answers = await anyio.to_thread.run_sync(self._answers, calls)
        else:
            answers = self._answers(calls)
        for call, answer in zip(calls, answers, strict=True):
            call.answer = answer
            call.done.set()

    def _answers(self, calls: Sequence[_Call[T, R]]) -> Sequence[R | Exception]:
        try:
            return self._work([call.item for call in calls])
        except Exception as error:
            # Every call that waits for this batch has to end.
            return [error] * len(calls)
