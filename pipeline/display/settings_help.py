"""The settings of a stage as help text, read off its config models."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schemas.stage import Stage


def settings_help(stage: Stage[Any]) -> str:
    """Every key of the stage's section with its type, default and meaning."""
    lines = [f"[bold]Settings of \\[{stage.name}][/bold]", *setting_lines(stage.config)]
    # Typer joins single line breaks; a blank line keeps each setting on its own.
    return "\n\n".join(lines)


def setting_lines(model: type[BaseModel]) -> Iterator[str]:
    """A line per key of a section, in rich's markup."""
    return _lines(model, "")


def _lines(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name == "kind":  # said once, by the union around it
            continue
        members = {m.model_fields["kind"].default: m for m in _kinds(field)}
        if members:
            yield _line(f"{prefix}{name}.kind", f" = {' | '.join(members)}", field)
            yield from _union_lines(members, f"{prefix}{name}.")
            continue
        inner = _models(field.annotation)
        yield _line(f"{prefix}{name}", "" if inner else _default(field), field)
        for part in inner:
            yield from _lines(part, f"{prefix}{name}.")


def _union_lines(members: Mapping[str, type[BaseModel]], prefix: str) -> Iterator[str]:
    """The settings of all kinds, each once, with the kinds that have it where not all do."""
    kinds_of: dict[str, list[str]] = {}
    for kind, member in members.items():
        for line in _lines(member, prefix):
            kinds_of.setdefault(line, []).append(kind)
    for line, kinds in kinds_of.items():
        others = [kind for kind in members if kind not in kinds]
        few = "only" if len(kinds) <= len(others) else "not"
        named = ", ".join(kinds if few == "only" else others)
        yield f"{line} [dim]({few} {named})[/dim]" if others else line


def _line(name: str, value: str, field: FieldInfo) -> str:
    described = f": {_escape(field.description)}" if field.description else ""
    return f"[cyan]{name}[/cyan]{value}{described}"


def _kinds(field: FieldInfo) -> list[type[BaseModel]]:
    """The members of a union told apart by `kind`; empty for any other field."""
    return [m for m in _models(field.annotation) if "kind" in m.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The config models inside an annotation, in order."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return " (required)"
    value = field.get_default(call_default_factory=True)
    return "" if value is None else f" = {_escape(str(value))}"


def _escape(text: str) -> str:
    return text.replace("[", "\\[")
