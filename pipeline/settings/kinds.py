"""Config models and unions told apart by `kind`, inside the annotations of settings."""

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import Tag


def fields_of(model: Any) -> Mapping[str, Any]:
    """The fields of a config model; empty for anything else."""
    return getattr(model, "model_fields", {})


def kinds_of(annotation: Any) -> dict[str, Any]:
    """The members of a union told apart by `kind`, also where it is `Annotated`."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    members = {
        fields_of(one)["kind"].default: one
        for one in get_args(annotation)
        if "kind" in fields_of(one)
    }
    return members if get_origin(annotation) in (Union, UnionType) else {}


def tags_of(annotation: Any) -> dict[str, Any]:
    """The members of a union told apart by keys of their own, by their tags."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return {
        note.tag: get_args(one)[0]
        for one in get_args(annotation)
        if get_origin(one) is Annotated
        for note in get_args(one)[1:]
        if isinstance(note, Tag)
    }


def unwrapped(annotation: Any) -> Any:
    """`X | None` as X; a union of several stays as it is."""
    members = [a for a in get_args(annotation) if a is not NoneType]
    has_none = NoneType in get_args(annotation)
    return members[0] if has_none and len(members) == 1 else annotation


def with_default_kinds(model: Any, values: Any) -> Any:
    """The values of a section, its inner sections with the kind that is their default."""
    if not isinstance(values, Mapping):
        return values
    return {
        key: _with_kind(fields_of(model)[key], value)
        if key in fields_of(model) and isinstance(value, Mapping)
        else value
        for key, value in values.items()
    }


def _with_kind(field: Any, value: Mapping[str, Any]) -> Any:
    inside = unwrapped(field.annotation)
    kinds = kinds_of(inside)
    if not kinds:
        return with_default_kinds(inside, value)
    kind = default_kind(field)
    if "kind" not in value and kind is not None:
        value = {"kind": kind, **value}
    return with_default_kinds(kinds.get(value.get("kind", "")), value)


def default_kind(field: Any) -> str | None:
    """The kind of what stands where nothing is said; None where there is none."""
    value = None if field.is_required() else field.get_default(call_default_factory=True)
    kind: str | None = getattr(value, "kind", None)
    return kind


def annotations_at(model: Any, path: Sequence[str]) -> list[Any]:
    """What a setting may be by its path below a model, in all kinds of the sections on the way."""
    if not path:
        return [model]
    if path[0].isdigit():
        return [a for inner in get_args(model)[:1] for a in annotations_at(inner, path[1:])]
    kinds = kinds_of(unwrapped(model))
    if kinds and path == ["kind"]:
        return [Literal["kind"]]
    members = list(kinds.values()) or [unwrapped(model)]
    fields = [fields_of(m)[path[0]] for m in members if path[0] in fields_of(m)]
    return [a for one in fields for a in annotations_at(one.annotation, path[1:])]
