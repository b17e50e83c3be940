"""The compare command: which of several models, or files of outputs, is better."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.judging.comparing.leaderboard import show_leaderboard
from pipeline.commands.judging.comparing.play import Wishes, compare_contenders
from pipeline.commands.options import (
    ApiKeyOption,
    CompletionPriceOption,
    JsonOption,
    MaxCostOption,
    PromptPriceOption,
    judge_runtime,
)
from pipeline.display.console import Console
from pipeline.display.terminal_text import say_json
from schemas.errors import BackendError


def compare(
    contenders: Annotated[
        list[str],
        typer.Argument(
            metavar="A B [C ...]",
            help="Model folders, adapters, hub ids, openai:MODEL@URL, files of outputs, or models "
            "whose answers a standard set has; NAME=... gives a name.",
        ),
    ],
    judge: Annotated[
        str,
        typer.Option(
            "--judge", "-j", help="length, a model's folder or hub id, openai:MODEL@URL, or a rule."
        ),
    ],
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            "-p",
            help="A text file (one a line), JSON lines or an array, CSV or Parquet; or a standard "
            "set, NAME=FOLDER: alpaca-eval, arena-hard-v0.1, arena-hard-v2.0, mt-bench. Default: "
            "those of the files of outputs.",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Whom the others have to beat. Default: the first, or a standard set's own."
        ),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", "-d", help="Where the result and its recipe go.")
    ] = None,
    n: Annotated[int | None, typer.Option(min=1, help="Completions of each prompt.")] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Longest completion. Default: 512, or a standard set's own."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="0 takes the likeliest token. Default: 0.7, or a standard set's own by category.",
        ),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Benchmarks of every model that can be run: a,b.")
    ] = None,
    all_pairs: Annotated[
        bool,
        typer.Option(
            "--all-pairs/--against-baseline",
            help="From three on: judge every two against each other, or each against the baseline "
            "alone.",
        ),
    ] = True,
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
    found = compare_contenders(
        contenders,
        judge,
        Wishes(
            prompts=prompts,
            baseline=baseline,
            run_dir=run_dir,
            n=n,
            max_tokens=max_tokens,
            temperature=temperature,
            tasks=[task.strip() for task in tasks.split(",")] if tasks else (),
            all_pairs=all_pairs,
            chat_template=chat_template,
            api_key_env=api_key_env,
            runtime=judge_runtime(prompt_price, completion_price, max_cost),
        ),
    )
    if as_json:
        say_json(json.dumps(found))
    else:
        show_leaderboard(found, Console(highlight=False, markup=False, soft_wrap=True))
    if found["incomplete"]:
        raise BackendError(
            f"not all of it could be done: {found['incomplete'][0]}; the rest is kept: run the "
            "same command again to try what is missing"
        )
