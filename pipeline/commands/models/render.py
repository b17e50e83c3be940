"""The render command: conversations of a file in the tokens that a model would be trained on."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.commands.options import JsonOption
from pipeline.display.terminal_text import say_json
from schemas.errors import ConfigError

ModelArgument = Annotated[
    str, typer.Argument(help="A model's folder, or one with a tokenizer alone, or a hub id.")
]
ArgumentOption = Annotated[
    list[str] | None,
    typer.Option(
        "--template-arg",
        help="An argument of the chat template: key=value, the value as JSON. May be repeated.",
    ),
]
TemplateOption = Annotated[
    str | None,
    typer.Option("--chat-template", help="chatml, role_colon, or a file, instead of its own."),
]


def render(
    model: ModelArgument,
    file: Annotated[Path, typer.Argument(help="JSON Lines: messages, or prompt with chosen.")],
    template_arg: ArgumentOption = None,
    chat_template: TemplateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show conversations as a model's tokens, and which of them it would be trained on."""
    from evals.models.chat.rows import open_renderer, rendered_rows
    from pipeline.display.rendered import show_rendered

    renderer = open_renderer(model, template_arguments(template_arg), chat_template)
    for number, record in enumerate(rendered_rows(file, renderer)):
        if as_json:
            say_json(json.dumps(record, ensure_ascii=False))
        else:
            show_rendered(number, record, renderer)


def template_arguments(given: Sequence[str] | None) -> dict[str, Any]:
    """Arguments of a chat template by name; a value that is no JSON is a text.

    Raises:
        ConfigError: one without a name or a value.
    """
    found: dict[str, Any] = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"--template-arg {one}: write it as name=value")
        try:
            found[name] = json.loads(_as_json(value))
        except ValueError:
            found[name] = value
    return found


def _as_json(value: str) -> str:
    return value.lower() if value in {"True", "False"} else "null" if value == "None" else value
