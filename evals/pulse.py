"""Signs of life from inside a piece of work: how much of it is under way, before it is kept.

An engine says `beat` as it works through a batch and knows nothing of who listens; whoever shows
progress hears it. In between, `scaled` turns the engine's units into those that are shown.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class _Heard:
    listener: Callable[[float], None]
    scale: float = 1.0


_HEARD: ContextVar[tuple[_Heard, ...]] = ContextVar("heard", default=())


def beat(units: float = 1.0) -> None:
    """Say that `units` more are under way; a fraction of one is a sign of life too."""
    for heard in _HEARD.get():
        heard.listener(units * heard.scale)


@contextmanager
def heard_by(listener: Callable[[float], None]) -> Iterator[None]:
    """Have a listener hear every beat inside the block."""
    token = _HEARD.set((*_HEARD.get(), _Heard(listener)))
    try:
        yield
    finally:
        _HEARD.reset(token)


@contextmanager
def scaled(factor: float) -> Iterator[None]:
    """Count the units of the block as `factor` of those that are shown outside of it."""
    found = tuple(_Heard(one.listener, one.scale * factor) for one in _HEARD.get())
    token = _HEARD.set(found)
    try:
        yield
    finally:
        _HEARD.reset(token)
