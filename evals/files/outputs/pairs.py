"""Two answers side by side in a row, and which one somebody preferred."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import DataError
from schemas.labels import Preference

Row = Mapping[str, Any]

PAIR_COLUMNS = (
    ("completion_a", "completion_b"),
    ("response_a", "response_b"),
    ("output_a", "output_b"),
    ("answer_a", "answer_b"),
    ("response_A", "response_B"),
    ("response_1", "response_2"),
    ("response1", "response2"),
    ("output_1", "output_2"),
    ("completion_1", "completion_2"),
    ("answer_1", "answer_2"),
    ("chosen", "rejected"),
)
_LABELS = ("label", "preference", "winner", "preferred", "choice", "overall_preference")
_A = ("a", "model_a", "response_a", "output_a", "completion_a", "1", "response_1", "output_1",
      "a>b", "first")  # fmt: skip
_B = ("b", "model_b", "response_b", "output_b", "completion_b", "2", "response_2", "output_2",
      "b>a", "second")  # fmt: skip
_TIES = ("tie", "ties", "tie (bothbad)", "both", "bothbad", "equal", "a=b", "same", "draw")
_SPELLINGS = (
    dict.fromkeys(_A, Preference.A)
    | dict.fromkeys(_B, Preference.B)
    | dict.fromkeys(_TIES, Preference.TIE)
)


def pair_columns(row: Row) -> tuple[str, str] | None:
    """The two columns of a row that hold answers; None where there are not two."""
    return next((pair for pair in PAIR_COLUMNS if all(name in row for name in pair)), None)


def label_of(path: Path, number: int, row: Row) -> Preference | None:
    """What somebody preferred, the first column being A; None where nobody has said.

    Raises:
        DataError: a preference in a spelling that could mean either side.
    """
    if pair_columns(row) == ("chosen", "rejected"):
        return Preference.A
    name = next((name for name in _LABELS if row.get(name) is not None), None)
    if name is None:
        return None
    value = row[name]
    if name == "overall_preference" and isinstance(value, int | float):
        # HelpSteer3's: below zero for the first response.
        return Preference.A if value < 0 else Preference.B if value > 0 else Preference.TIE
    whole = isinstance(value, int | float) and not isinstance(value, bool)
    found = _SPELLINGS.get((f"{value:g}" if whole else str(value)).strip().lower())
    if found is None:
        raise DataError(
            f"{path}: row {number}: {name} is {value!r}, which says neither side for certain; "
            "write A, B or Tie"
        )
    return found
