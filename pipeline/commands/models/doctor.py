"""The doctor command: what is wrong with a model's tokenizer and chat template, and what to do."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.commands.models.render import (
    ArgumentOption,
    TemplateOption,
    template_arguments,
)
from pipeline.commands.options import JsonOption, SetOption, resolve
from pipeline.display.terminal_text import say, say_json
from pipeline.memory import bills, show_bills
from pipeline.recipe import Recipe
from schemas.errors import ConfigError

OptionalModel = Annotated[
    str | None,
    typer.Argument(help="A model's folder, or one with a tokenizer alone, or a hub id."),
]
RecipeToBill = Annotated[
    Path | None,
    typer.Option("--recipe", "-r", help="Say what memory the stages of this recipe will take."),
]

_EXAMPLE = {"messages": [{"role": "user", "content": "What is two and two?"}]}
_ANSWER = {"role": "assistant", "content": "Four."}


def doctor(
    model: OptionalModel = None,
    recipe: RecipeToBill = None,
    overrides: SetOption = None,
    template_arg: ArgumentOption = None,
    chat_template: TemplateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Probe a model's tokenizer and chat template: what is wrong, and what to do about it.

    With --recipe: what memory its stages will take on this machine.
    """
    if recipe is not None:
        return _bill(resolve(recipe, overrides), as_json)
    if model is None:
        raise ConfigError("doctor: name a model, or a recipe with --recipe")
    from evals.models.chat.checks import Finding, findings
    from evals.models.chat.rows import open_renderer

    example: dict[str, Any] | None = None
    ends: list[str] = []
    broken: list[str] = []
    renderer: Any = None
    try:
        renderer = open_renderer(model, template_arguments(template_arg), chat_template)
        found = findings(renderer)
        ends = renderer.tokenizer.convert_ids_to_tokens(renderer.end_ids)
        broken = sorted(renderer.structure.tokens | renderer.structure.tokens_of_tools)
        example = _example(renderer)
    except ConfigError as error:
        found = [Finding("chat_template", "wrong", str(error))]
    wrong = any(one.severity == "wrong" for one in found)
    if as_json:
        said: dict[str, Any] = {
            "model": model,
            "wrong": wrong,
            "findings": [asdict(one) for one in found],
        }
        said |= {"stops": ends, "neutralised": broken, "example": example}
        say_json(json.dumps(said, ensure_ascii=False))
    else:
        _show(found, ends, broken, example, renderer)
    if wrong:
        raise typer.Exit(2)


def _bill(recipe: Recipe, as_json: bool) -> None:
    if not as_json:
        return show_bills(recipe)
    say_json(json.dumps({"memory": {one.stage: one.as_json() for one in bills(recipe)}}))


def _example(renderer: Any) -> dict[str, Any] | None:
    from evals.models.chat.rows import rendered_line

    row = {"messages": [*_EXAMPLE["messages"], _ANSWER]}
    record = next(iter(rendered_line(json.dumps(row).encode(), renderer)))
    return None if "error" in record else record


def _show(
    found: Any,
    ends: list[str],
    broken: list[str],
    example: dict[str, Any] | None,
    renderer: Any,
) -> None:
    from pipeline.display.rendered import show_rendered

    for one in found:
        say(f"{one.severity}: {one.check}: {one.message}")
    if not found:
        say("nothing is wrong")
    if ends:
        say(f"a sample stops at {', '.join(ends)}")
    if broken:
        say(f"a text that spells one of these out is neutralised: {', '.join(broken)}")
    if example is not None:
        show_rendered(0, example, renderer)
