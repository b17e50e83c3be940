"""The legal values of a type in words, and one of them as a recipe writes it."""

import datetime
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

_BOUNDS = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
_ATOMS = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    datetime.date: "date",
    Any: "anything",
}
_EXAMPLES = {bool: "true", float: "0.5", str: '"..."', datetime.date: "2026-01-31", Any: '"..."'}


def legal_words(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """What a setting of a type may be, such as `whole number, at least 1; or null`."""
    members, may_be_null = without_none(annotation)
    words = " or ".join(dict.fromkeys(_one(member) for member in members))
    bounds = ", ".join(_bounds([*metadata, *_metadata_inside(members)]))
    said = ", ".join(filter(None, [words, bounds]))
    return f"{said}; or null" if may_be_null else said


def choices(annotation: Any) -> tuple[str, ...]:
    """The words to choose from, where a setting is one of a few."""
    members, _ = without_none(annotation)
    found = [value for m in members if get_origin(m) is Literal for value in get_args(m)]
    return tuple(map(str, found))


def example_value(annotation: Any, default: Any = None, metadata: Sequence[Any] = ()) -> str:
    """A legal value as TOML has it, another one than the default where that is easy to find."""
    members, _ = without_none(annotation)
    first = _plain(members[0])
    words = choices(annotation)
    if words:
        return f'"{next((word for word in words if word != default), words[0])}"'
    if first is bool:
        return "false" if default is True else "true"
    if first in (int, float) and isinstance(default, int | float):
        return _other_number(first, default, [*metadata, *_metadata_inside(members)])
    if first is int:
        return str(max([1, *(m.ge for m in metadata if getattr(m, "ge", None) is not None)]))
    if get_origin(first) in (list, tuple):
        return f"[{example_value(get_args(first)[0])}]"
    return _EXAMPLES.get(first, "{}")


def without_none(annotation: Any) -> tuple[list[Any], bool]:
    """The members of a union (a plain type is one), and whether null is legal too."""
    annotation = _plain(annotation)
    if get_origin(annotation) not in (Union, UnionType):
        return [annotation], False
    members = [member for one in get_args(annotation) for member in without_none(one)[0]]
    return [m for m in members if m is not NoneType], NoneType in get_args(annotation)


def _plain(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _metadata_inside(members: Sequence[Any]) -> Iterator[Any]:
    for member in members:
        if get_origin(member) is Annotated:
            yield from get_args(member)[1:]


def _one(member: Any) -> str:
    member = _plain(member)
    if isinstance(member, type) and issubclass(member, BaseModel):
        return "section"
    origin, inner = get_origin(member), get_args(member)
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in (list, tuple):
        return f"list of {_several(inner[0])}"
    if origin is dict or member is dict:
        return f"section of {_several(inner[1])} by name" if inner else "section"
    return _ATOMS.get(member, "anything")


_PLURALS = {"text": "texts", "number": "numbers", "whole number": "whole numbers"}


def _several(annotation: Any) -> str:
    said = legal_words(annotation)
    return "sections" if "section" in said else _PLURALS.get(said, said)


def _bounds(metadata: Sequence[Any]) -> Iterator[str]:
    for one in metadata:
        for name, words in _BOUNDS:
            bound = getattr(one, name, None)
            if bound is not None:
                yield f"{words} {bound:g}" if isinstance(bound, float) else f"{words} {bound}"
        if getattr(one, "min_length", None):
            yield f"at least {one.min_length} of them"


def _other_number(kind: type, default: float, metadata: Sequence[Any]) -> str:
    """The default doubled, halved or stepped, whichever the bounds allow first."""
    candidates = (default * 2, default / 2, default + 1, default - 1)
    for number in map(kind, candidates):
        if number != default and all(_within(number, one) for one in metadata):
            return f"{number:g}" if kind is float else str(number)
    return f"{default}"


def _within(number: float, bound: Any) -> bool:
    return (
        (getattr(bound, "ge", None) is None or number >= bound.ge)
        and (getattr(bound, "gt", None) is None or number > bound.gt)
        and (getattr(bound, "le", None) is None or number <= bound.le)
        and (getattr(bound, "lt", None) is None or number < bound.lt)
    )
