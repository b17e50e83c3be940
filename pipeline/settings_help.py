"""The settings of a stage as help text, read off its config models."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schemas.stage import Stage


def settings_help(stage: Stage[Any]) -> str:
    """Every key of the stage's section with its type, default and meaning."""
    lines = [f"[bold]Settings of \\[{stage.name}][/bold]", *_lines(stage.config, "")]
    # Typer joins single line breaks; a blank line keeps each setting on its own.
    return "\n\n".join(lines)


def _lines(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = _models(field.annotation)
        default = "" if inner else _default(field)
        described = f": {_escape(field.description)}" if field.description else ""
        yield f"[cyan]{prefix}{name}[/cyan]{default}{described}"
        for member in inner:
            kind = member.model_fields.get("kind")
            label = f"{prefix}{name}.({kind.default})." if kind else f"{prefix}{name}."
            yield from _lines(member, label)


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
