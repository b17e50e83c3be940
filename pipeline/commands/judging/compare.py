"""The compare command: which of several models, or files of outputs, is better."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evals.judges.judge_spec import judge_settings
from pipeline.commands.judging.comparing.entrants import entrants, recipe_tree, samples
from pipeline.commands.judging.comparing.leaderboard import leaderboard, show_leaderboard
from pipeline.commands.named_run import begin_run
from pipeline.commands.options import (
    ApiKeyOption,
    CompletionPriceOption,
    JsonOption,
    MaxCostOption,
    PromptPriceOption,
    judge_runtime,
)
from pipeline.commands.runs.run import run_recipe


def compare(
    contenders: Annotated[
        list[str],
        typer.Argument(
            metavar="A B [C ...]",
            help="Model folders, adapters, hub ids, openai:MODEL@URL, or files of outputs; "
            "NAME=... gives a name.",
        ),
    ],
    judge: Annotated[
        str,
        typer.Option(
            "--judge", "-j", help="length, a model's folder or hub id, openai:MODEL@URL, or a rule."
        ),
    ],
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            "-p",
            help="A text file (one a line), JSON lines or an array, CSV or Parquet. Default: those "
            "of the files of outputs.",
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Whom the others have to beat. Default: the first.")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", "-d", help="Where the result and its recipe go.")
    ] = None,
    n: Annotated[int | None, typer.Option(min=1, help="Completions of each prompt.")] = None,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Longest completion, where one is written.")
    ] = 512,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")] = 0.7,
    tasks: Annotated[
        str | None, typer.Option(help="Benchmarks of every model that can be run: a,b.")
    ] = None,
    chat_template: Annotated[
        str | None, typer.Option(help="Of base models: chatml or role_colon.")
    ] = None,
    prompt_price: PromptPriceOption = 0.0,
    completion_price: CompletionPriceOption = 0.0,
    max_cost: MaxCostOption = None,
    api_key_env: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which of several models or files of outputs is better, with intervals and a page."""
    entered = entrants(contenders, baseline, api_key_env, chat_template)
    names = [entrant.name for entrant in entered]
    judged_by = judge_settings(judge, api_key_env)
    directory = run_dir or Path("runs") / f"compare-{_slug('-'.join([*names[1:], names[0]]))}"
    tree = recipe_tree(
        entered,
        name=directory.name,
        judge=judged_by.model_dump(mode="json", exclude_defaults=True) | {"kind": judged_by.kind},
        prompts=None if prompts is None else str(prompts),
        evaluate={
            "n": samples(entered, n),
            "max_tokens": max_tokens,
            "temperature": temperature,
            "tasks": [task.strip() for task in tasks.split(",")] if tasks else None,
        },
        runtime=judge_runtime(prompt_price, completion_price, max_cost),
        title=f"{', '.join(names[1:])} over {names[0]}",
    )
    recipe = begin_run(tree, directory)
    last = run_recipe(recipe, directory)
    found = leaderboard(last.directory / "evaluate", entered)
    page = last.directory / "report" / "index.html"
    if as_json:
        typer.echo(json.dumps({**found, "page": str(page), "recipe": str(recipe.path)}))
    else:
        show_leaderboard(found, page, Console(highlight=False, markup=False, soft_wrap=True))


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:80]
