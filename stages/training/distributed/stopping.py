"""A process that is told to stop stops soon, also where it is blocked outside Python.

Python runs signal handlers between two of its own instructions. A rank that waits within a
collective for a peer that is gone would get to none.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_GRACE_SECONDS = 5.0


@contextmanager
def stopping_in_time(
    last_words: Callable[[], str | None], grace_seconds: float = _GRACE_SECONDS
) -> Iterator[None]:
    """Within the block, SIGTERM ends the process with exit code 2 after `grace_seconds` at most.

    The process's own handler runs first, and may end it sooner. `last_words` are written to stderr
    as an error, unless None. Must be entered by the main thread.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    arguments = (reader, last_words, grace_seconds)
    threading.Thread(target=_watch, args=arguments, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()


def _watch(
    reader: socket.socket, last_words: Callable[[], str | None], grace_seconds: float
) -> None:
    with reader:
        while number := reader.recv(1):
            if number[0] == signal.SIGTERM:
                break
        else:
            return  # the block is over
    time.sleep(grace_seconds)
    if words := last_words():
        sys.stderr.write(f"error: {words}\n")
        sys.stderr.flush()
    os._exit(2)
