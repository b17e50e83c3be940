"""How ranks keep in touch between collectives: rank 0 tells what comes next, and lives.

While rank 0 works alone, for minutes or hours, the others wait without a time limit of their own;
they give up when its sign of life stops. Who fails first says why; the others end in silence.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import torch
from torch._C._distributed_c10d import Store

from schemas.errors import BackendError
from stages.training.distributed.world import World

_LIFE, _BLAME = "prefline/life", "prefline/blame"
_POLL_SECONDS = 0.2
_WORDS = ("gloo", "nccl", "connection closed", "timed out", "broken pipe", "socket")


@contextmanager
def leading(world: World) -> Iterator[None]:
    """Rank 0 gives signs of life while the block runs."""
    assert world.store is not None
    done = threading.Event()
    store = world.store.clone()  # type: ignore[attr-defined]  # one client per thread
    thread = threading.Thread(target=_live, args=(store, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _live(store: Store, done: threading.Event) -> None:
    beats = 0
    while not done.wait(1.0 if beats else 0.0):
        beats += 1
        try:
            store.set(_LIFE, str(beats))
        except RuntimeError:  # the store is gone, and whoever kept it: the main thread will notice
            return


def tell(world: World, number: int, word: str) -> None:
    """Rank 0 says its word `number` to all others."""
    assert world.store is not None
    world.store.set(f"prefline/word/{number}", word)


def hear(world: World, number: int, patience_seconds: float) -> str:
    """Wait for rank 0's word `number`, as long as it lives.

    Raises:
        BackendError: no sign of life for `patience_seconds`.
        SystemExit: another rank has failed, and has said why.
    """
    assert world.store is not None
    key = f"prefline/word/{number}"
    beats, since = b"", time.monotonic()
    while not world.store.check([key]):
        if world.store.check([_BLAME]):
            raise SystemExit(2)
        now = world.store.get(_LIFE) if world.store.check([_LIFE]) else b""
        if now != beats:
            beats, since = now, time.monotonic()
        if time.monotonic() - since > patience_seconds:
            raise BackendError(f"rank {world.rank}: rank 0 is gone; {RESUME}")
        time.sleep(_POLL_SECONDS)
    return bytes(world.store.get(key)).decode()


RESUME = "nothing is lost: start the same torchrun command again to continue"
"""What to do after any failure of a rank."""

TOLD_TO_STOP = f"rank {{rank}} was told to stop; {RESUME}"


def fails_first(world: World, message: str) -> bool:
    """Whether this rank is the first that fails, and so the one that has to say why.

    The first one stays for a moment: its end may take the store along, where the others look.
    """
    assert world.store is not None
    mine = f"{world.rank}: {message}"
    try:
        world.store.set_timeout(timedelta(seconds=10))
        first = bytes(world.store.compare_set(_BLAME, "", mine)).decode() == mine
    except RuntimeError:
        return True
    if first:
        time.sleep(3 * _POLL_SECONDS)
    return first


def last_words(world: World) -> Callable[[], str | None]:
    """What a rank says that is blocked while it is told to stop; None where another has spoken."""
    assert world.store is not None
    own = replace(world, store=world.store.clone())  # type: ignore[attr-defined]
    message = TOLD_TO_STOP.format(rank=world.rank)
    return lambda: message if fails_first(own, message) else None


def is_lost_contact(error: BaseException) -> bool:
    """Whether a collective failed because another rank is gone or does not answer."""
    if isinstance(error, torch.distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in _WORDS)
