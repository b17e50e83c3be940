"""The init command: a commented recipe from the data, the model and the judge."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.commands.start.drafting import dataset_settings, draft
from pipeline.display.terminal_text import say
from pipeline.recipe import check_recipe
from pipeline.toml_text import toml_text
from schemas.errors import ConfigError
from schemas.files import write_text

_COMMENTS = {
    "ingest": "What is read, and how much of it is held out: decisions on dev, figures on test.",
    "judge": "Who says which of two answers is better; measured on held-out labels first.",
    "train": "What is trained: the start is its own reference, and a LoRA adapter is learned.",
    "evaluate": "The policy against the model it started from, on held-out prompts.",
    "report": "One page with every number.",
    "train.loss": "beta: how strongly the policy is held to the reference.",
    "train.training": "learning_rate is that of an adapter; a full fine-tuning takes a tenth.",
}
_SECTION = re.compile(r"\[([a-z_.]+)\]")


def init(
    data: Annotated[
        str | None,
        typer.Option(help="A file or folder of pairs, or hh, helpsteer3, ultrafeedback."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model to train: a folder or a hub id.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="length, a model's folder or hub id, or openai:MODEL@URL."),
    ] = None,
    path: Annotated[
        Path | None, typer.Option(help="Where hh, helpsteer3 or ultrafeedback lies here.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Which column is what: chosen=good,rejected=bad.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The recipe to write. Default: recipe.toml.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The name of the recipe and its run.")] = None,
    chat_template: Annotated[
        str | None, typer.Option(help="Of a base model: chatml or role_colon.")
    ] = None,
) -> None:
    """Write a commented recipe from your data, model and judge; ask for what is not said."""
    target = out or Path("recipe.toml")
    if target.exists():
        raise ConfigError(f"{target}: exists; delete it or choose another --out")
    data = data or _ask("--data", "Pairs (a file or folder, or hh, helpsteer3, ultrafeedback)")
    model = model or _ask("--model", "Model to train (a folder or a hub id)")
    judge = judge or _ask("--judge", "Judge (length, a model, or openai:MODEL@URL)")
    tree = draft(
        name=name or _name(target, data),
        dataset=dataset_settings(data, path, columns),
        model=model,
        judge=judge,
        chat_template=chat_template,
    )
    text = commented(tree, target)
    check_recipe(tomllib.loads(text), target)
    write_text(target, text)
    say(f"{target}: written; next: prefline run --recipe {target}")


def commented(tree: dict[str, Any], target: Path) -> str:
    """The text of a recipe with a line above each section that says what it is."""
    lines = [
        f"# prefline run --recipe {target}",
        "# prefline STAGE --help lists every setting.",
        "",
    ]
    for line in toml_text(tree).splitlines():
        found = _SECTION.fullmatch(line)
        if found and found[1] in _COMMENTS:
            lines.append(f"# {_COMMENTS[found[1]]}")
        lines.append(line)
    return "\n".join(lines) + "\n"


def _ask(option: str, question: str) -> str:
    if not sys.stdin.isatty():
        raise ConfigError(f"init: give {option}; nobody can be asked, as this is no terminal")
    answer: str = typer.prompt(question)
    return answer


def _name(target: Path, data: str) -> str:
    stem = target.stem if target.stem != "recipe" else Path(data).name.partition(".")[0]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "run"
