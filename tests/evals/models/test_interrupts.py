"""Ctrl-C in the moment in which the work has ended, while other tasks are under way."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from evals.models.http.interrupts import run


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


async def ends_beside(other: Callable[[], Awaitable[None]], kept: list[object]) -> str:
    """Work that ends just before another task has its turn."""
    go = asyncio.Event()

    async def waits() -> None:
        await go.wait()
        await other()

    kept.append(asyncio.ensure_future(waits()))
    await asyncio.sleep(0)
    go.set()
    return "done"


def test_an_interrupt_tears_no_other_task() -> None:
    survived: list[str] = []
    kept: list[object] = []

    async def other() -> None:
        press()
        for _ in range(100):  # time for Python to notice
            pass
        survived.append("it")

    with asyncio.Runner() as runner:
        with pytest.raises(KeyboardInterrupt):
            run(runner, ends_beside(other, kept))
        assert survived == ["it"]
        assert runner.run(asyncio.sleep(0, "the loop goes on")) == "the loop goes on"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_waited_for_is_cancelled_and_may_clean_up() -> None:
    said: list[str] = []

    async def work() -> None:
        asyncio.get_running_loop().call_soon(press)
        try:
            await asyncio.sleep(60)
        finally:
            said.append("cleaned")

    with asyncio.Runner() as runner, pytest.raises(KeyboardInterrupt):
        run(runner, work())
    assert said == ["cleaned"]


def test_the_third_interrupt_does_not_wait() -> None:
    cancelled: list[int] = []

    async def resists() -> None:
        asyncio.get_running_loop().call_soon(press)
        while len(cancelled) < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(1)
                asyncio.get_running_loop().call_soon(press)
        await asyncio.sleep(60)

    with asyncio.Runner() as runner, pytest.raises(KeyboardInterrupt):
        run(runner, resists())
    assert len(cancelled) == 2


def test_results_errors_and_cancellation_pass() -> None:
    async def fails() -> None:
        raise ValueError("no")

    async def cancelled() -> None:
        raise asyncio.CancelledError

    with asyncio.Runner() as runner:
        assert run(runner, asyncio.sleep(0, 3)) == 3
        with pytest.raises(ValueError, match="no"):
            run(runner, fails())
        with pytest.raises(asyncio.CancelledError):
            run(runner, cancelled())
