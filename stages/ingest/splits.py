"""Which prompts are held out.

By the prompt's hash, so that rows may be added, removed or reordered and nobody moves. For the same
reason no source can be given its exact share: each gets the share in expectation, with a standard
error of sqrt(share (1 - share) / prompts). An exact share per source would have to move prompts
whenever rows are added.
"""

import re
from pathlib import PurePath

from schemas.errors import ConfigError

_HELD_OUT = frozenset({"test", "validation", "valid", "val", "dev", "eval"})


def hash_split(prompt_id: str, test_fraction: float) -> str:
    """Split by the prompt's hash: the same prompt falls to the same side in every data set."""
    return "test" if int(prompt_id[:8], 16) / 2**32 < test_fraction else "train"


def named_split(file: str) -> str:
    """The split that a file's own name states, or else its folders, nearest first.

    Raises:
        ConfigError: no part of the name says which split it is.
    """
    for part in reversed(PurePath(file).parts):
        words = set(re.split(r"[^a-z]+", part.lower()))
        if words & _HELD_OUT:
            return "test"
        if "train" in words:
            return "train"
    raise ConfigError(
        f"ingest: keep_source_split: the name {file!r} does not say train or test; "
        "rename the file or leave keep_source_split out"
    )
