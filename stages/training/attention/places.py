"""Where the trees of a pack stand in its row."""

from collections.abc import Sequence
from dataclasses import dataclass

# Rows have a multiple of this many tokens: kernels are made, and memory is taken, per length.
ROUND_TOKENS = 64


@dataclass(frozen=True)
class Places:
    """Where in the row a tree's prompt stands, and each of its branches."""

    prompt: range
    branches: Sequence[range]
