"""What is done shard by shard: a job that can be sent, its worker, the counts that come back."""

from collections.abc import Mapping
from typing import Protocol

Counts = Mapping[str, int]


class Worker(Protocol):
    """Has its engine loaded, and does one shard after another."""

    def work(self, shard: int) -> Counts:
        """Do a shard, keep what came of it, and return its counts."""

    def close(self) -> None:
        """Let go of the engine."""


class Job(Protocol):
    """What is to be done, without the engine: it can be sent to another machine."""

    def open(self) -> Worker:
        """Load the engine. Raises what loading it raises."""
