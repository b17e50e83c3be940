"""Which kind of data set a raw row belongs to: whichever understands it."""

from collections.abc import Collection, Sequence
from typing import Any

from stages.ingest.datasets.open import open_dataset
from stages.ingest.examples import Example, RowError
from stages.ingest.readers.columns import (
    GUESSES,
    OWN_KINDS,
    default_settings,
    has_columns,
    mapping,
)
from stages.ingest.readers.file_diagnostics import UNREADABLE, advice
from stages.ingest.readers.raw_rows import RawRow, json_value

# What is wrong with a row of another kind. All else is wrong with its content.
_ANOTHER_SHAPE = frozenset({"missing_field", "wrong_type", "unknown_role", "no_turns"})

Outcomes = Sequence[Example | RowError]


def guess(origin: RawRow) -> tuple[str | None, Outcomes]:
    """The first kind that a row has the shape of, and what it is read as; None where none is."""
    if isinstance(origin.value, RowError):
        return None, [origin.value]
    fitting = [k for k in GUESSES if has_columns(list(origin.value), default_settings(k).needed)]
    outcomes: Outcomes = []
    for kind in fitting:
        outcomes = read_as(kind, origin)
        first = outcomes[0]
        if not isinstance(first, RowError) or first.reason not in _ANOTHER_SHAPE:
            return kind, outcomes
    return None, outcomes


def read_as(kind: str, origin: RawRow) -> Outcomes:
    """What a row is read as by a kind with its default settings. Raises ValidationError."""
    outcomes: Outcomes = open_dataset(default_settings(kind, origin.file)).outcomes(origin)
    return outcomes


def what_next(raw: str, dataset: Any, reasons: Collection[str], unread: Sequence[str] = ()) -> str:
    """What to do about a data set that has no usable row: by the first row, as rejects have it, the
    `reasons` of all, and the columns that nothing has looked at.
    """
    kind = dataset.kind
    said = advice(raw)
    if said is not None and set(reasons) <= UNREADABLE:
        return said
    other, _ = guess(RawRow("", 0, json_value(raw.encode("utf-8", "replace"))))
    if other is None:
        if "missing_field" in reasons and unread:
            found = ", ".join(unread[:12])
            said = mapping(unread, dataset.column_sets())
            return f"it has {found} beside what is read: {said}"
        return "check that kind and path belong together"
    if other == ("jsonl" if kind in OWN_KINDS else kind):
        return "the kind fits: check the filters and settings in [ingest]"
    return f"that row has the shape of kind = '{other}'"
