"""Two answers and which is better, under the names and in the spellings that people use.

A label is read where it can only mean one side: a letter, a number that the columns have, the name
of a column. Numbers that count from nought beside columns that do not are refused for the whole
file, since a 1 among them would be the second answer, not the first.
"""

from collections.abc import Collection, Mapping
from typing import Any

from schemas.errors import DataError
from schemas.labels import Preference
from stages.ingest.datasets.own.sides import SIDES, STEMS, Sides
from stages.ingest.examples import RowError, field, number_field

LABELS = (
    *("label", "preference", "preferred", "winner", "choice", "better", "human_preference"),
    *("better_response_id", "chosen"),
)
"""Where a row says which answer is better."""
_TIES = frozenset(
    (
        *("tie", "ties", "tied", "draw", "equal", "same", "neither", "both", "a=b"),
        *("tie (bothbad)", "tie_bothbad", "both_bad", "bothbad", "both bad"),
    )
)
_FIRST = frozenset(("a", "first", "left", "a>b", "a>>b", "chosen_a"))
_SECOND = frozenset(("b", "second", "right", "b>a", "b>>a", "chosen_b"))


def sides_of(row: Collection[str]) -> Sides | None:
    """The columns of the two answers of a row; None where it has none.

    Raises:
        RowError: it has more than two.
    """
    found = [sides for sides in SIDES if set(sides.names) <= set(row)]
    if len({name for sides in found for name in sides.names}) > 2:
        raise RowError(
            "several_sides", f"more than two answers: {found[0].names}, {found[1].names}"
        )
    return found[0] if found else None


def preference(row: Mapping[str, Any], sides: Sides) -> tuple[Preference, float | None]:
    """Which side is better, and by how much where scores say it.

    Raises:
        RowError: nothing says it, or not in a way that can be understood.
        DataError: labels count from nought and the columns do not.
    """
    name = next((name for name in LABELS if row.get(name) is not None), None)
    if name is not None:
        return _read(row[name], name, sides), None
    for rated in sides.ratings:
        if rated[0] in row or rated[1] in row:
            first, second = (number_field(row, name) for name in rated)
            label = Preference.A if first > second else Preference.B
            return (Preference.TIE if first == second else label), abs(first - second)
    field(row, "label")
    raise AssertionError("unreachable: the label is there")


def _read(value: Any, name: str, sides: Sides) -> Preference:
    said = _plain(value)
    first, second = (_names_of(ending, sides.stem) for ending in sides.endings)
    if said in _TIES:
        return Preference.TIE
    if said in first or said in _FIRST:
        return Preference.A
    if said in second or said in _SECOND:
        return Preference.B
    if sides.endings[0].lower() == "_a" and said in ("1", "2"):
        return Preference.A if said == "1" else Preference.B
    if said == "0":
        raise DataError(
            f"{name} is 0 beside {' and '.join(sides.names)}: a count from nought does not say "
            "which of them it means; write A and B there, or the names of the columns"
        )
    raise RowError(
        "unknown_label",
        f"{name} is {value!r}, must be A, B or Tie, or name {' or '.join(sides.names)}",
    )


def _plain(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().lower() if not isinstance(value, bool) else ""


def _names_of(ending: str, stem: str) -> frozenset[str]:
    """What a label may call the side of a column: its ending, or a name with it."""
    bare = ending.strip("_").lower()
    stems = (*STEMS, "model", "assistant", "option", stem)
    return frozenset((bare, *(f"{s}{j}{bare}" for s in stems for j in ("_", "", " "))))
