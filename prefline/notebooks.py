"""Calls from where an event loop runs already, as in every cell of a notebook."""

import asyncio
import contextvars
import ctypes
import functools
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_SECONDS_BETWEEN_LOOKS = 0.2
"""A signal that another thread has taken is seen only when this one wakes."""
_PRESSES = 3
"""Interrupts after which nobody waits for the work to end well."""


def outside_event_loops(door: Callable[P, T]) -> Callable[P, T]:
    """`door`, in a thread of its own where this one runs an event loop.

    Judges behind servers and benchmarks run event loops, and a thread can have only one.
    """

    @functools.wraps(door)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return door(*args, **kwargs)
        return _in_a_thread(lambda: door(*args, **kwargs))

    return called


def _in_a_thread(work: Callable[[], T]) -> T:
    """What the work comes to. An interrupt here is one there, so that it can end well."""
    found: list[T] = []
    failed: list[BaseException] = []
    ended = threading.Event()  # an interrupted join would take a thread that works for a dead one

    def attempt() -> None:
        try:
            found.append(work())
        except BaseException as error:
            failed.append(error)
        finally:
            ended.set()

    # A notebook knows by the context in which cell something is printed.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(attempt,), daemon=True)
    thread.start()
    presses = 0
    while not ended.is_set():
        try:
            ended.wait(_SECONDS_BETWEEN_LOOKS)
        except KeyboardInterrupt:
            presses += 1
            if presses == _PRESSES:
                raise
            _interrupt(thread)
    if failed:
        raise failed[0]
    return found[0]


def _interrupt(thread: threading.Thread) -> None:
    """Raise KeyboardInterrupt in a thread, where it next runs Python."""
    number: Any = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(KeyboardInterrupt))
