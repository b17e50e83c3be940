"""Which prompts are trained on (train), decided by (dev), and measured on at the end (test).

By the prompt's hash, so that rows may be added, removed or reordered and nobody moves. For the same
reason no source can be given its exact share: each gets the share in expectation, with a standard
error of sqrt(share (1 - share) / prompts). An exact share per source would have to move prompts
whenever rows are added.

Test prompts are those of the lowest hashes, dev prompts those of the highest: either share may be
changed and the other split stays what it was.
"""

import re
from collections.abc import Collection
from pathlib import PurePath

from schemas.errors import ConfigError

ORDER = ("train", "dev", "test")
"""The splits, each held out more strictly than the one before: a prompt only ever moves up."""
_TEST, _DEV = frozenset({"test"}), frozenset({"validation", "valid", "val", "dev", "eval"})


def hash_split(prompt_id: str, test_fraction: float, dev_fraction: float) -> str:
    """Split by the prompt's hash: the same prompt falls to the same side in every data set."""
    place = int(prompt_id[:8], 16) / 2**32
    if place < test_fraction:
        return "test"
    return "dev" if place >= 1 - dev_fraction else "train"


def named_split(file: str) -> str:
    """The split that a file's own name states, or else its folders, nearest first.

    Raises:
        ConfigError: no part of the name says which split it is.
    """
    for part in reversed(PurePath(file).parts):
        words = set(re.split(r"[^a-z]+", part.lower()))
        for split, names in (("test", _TEST), ("dev", _DEV), ("train", {"train"})):
            if words & names:
                return split
    raise ConfigError(
        f"ingest: keep_source_split: the name {file!r} does not say train or test; "
        "rename the file or leave keep_source_split out"
    )


def has_own_dev(stated: Collection[str | None]) -> bool:
    """Whether a source with these splits brings its own dev split.

    The only held-out split of a source is its test split, whatever its name; dev is then carved
    out of train, by hash.
    """
    return "dev" in stated and "test" in stated
