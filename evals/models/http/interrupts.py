"""Ctrl-C while an event loop runs: what is waited for is cancelled, and nothing else is torn."""

import asyncio
import signal
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


def run(runner: asyncio.Runner, work: Coroutine[Any, Any, T]) -> T:
    """What the work comes to; KeyboardInterrupt, once it has ended, where Ctrl-C was pressed.

    A runner by itself raises it inside whichever task has its turn where the work has ended in that
    moment: that task's answer is lost, and its connection with it. A third Ctrl-C does so here.
    """
    loop, pressed = runner.get_loop(), 0
    task: asyncio.Future[T] = loop.create_task(work)

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed += 1
        if pressed > 2:
            raise KeyboardInterrupt
        loop.call_soon_threadsafe(task.cancel)

    async def ended() -> T:
        return await task

    ours = _takes_interrupts()
    if ours:
        signal.signal(signal.SIGINT, press)
    try:
        found = runner.run(ended())
    except asyncio.CancelledError:
        if pressed:
            raise KeyboardInterrupt from None
        raise
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt
    return found


def _takes_interrupts() -> bool:
    """Whether nobody else has said what Ctrl-C does."""
    in_main = threading.current_thread() is threading.main_thread()
    return in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
