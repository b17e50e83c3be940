"""A process that is blocked outside Python, and told to stop."""

import signal
import subprocess
import sys
import time

from tests.fixtures.command_line import ROOT, environment
from tests.fixtures.patience import PATIENCE

# Waits for a key that nobody sets, within C++ and without an end of its own; Python's own handler,
# which would raise KeyboardInterrupt, does not get its turn.
BLOCKED = """
import signal, sys
from datetime import timedelta
from torch.distributed import HashStore
from stages.training.distributed.stopping import stopping_in_time

def interrupt(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, interrupt)
with stopping_in_time(lambda: "told to stop", grace_seconds=0.2):
    print("blocked", flush=True)
    HashStore().wait(["never"], timedelta(days=1))
"""


def test_a_blocked_process_stops_soon_and_says_so() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BLOCKED],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "blocked\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert said == "error: told to stop\n"
