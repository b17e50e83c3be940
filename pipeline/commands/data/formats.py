"""What tables can be exported as."""

from enum import StrEnum


class Format(StrEnum):
    """What can be written."""

    TRL = "trl"
    COOKBOOK = "cookbook"
    JSONL = "jsonl"
    HUB_LAYOUT = "hub-layout"


class Ties(StrEnum):
    """What becomes of comparisons that nobody won."""

    KEEP = "keep"
    DROP = "drop"
