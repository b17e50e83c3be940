"""The train-pairs command: from preference pairs to an adapter and a page in one line."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.named_run import begin_run
from pipeline.commands.options import JsonOption
from pipeline.commands.runs.run import run_recipe
from pipeline.commands.start.drafting import dataset_settings, draft
from pipeline.display.outcome import outcome_table, read_summary
from pipeline.display.terminal_text import say, say_json


def train_pairs(
    file: Annotated[
        str,
        typer.Argument(help="A file or folder of pairs, or hh, helpsteer3, ultrafeedback."),
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="A model's folder or hub id.")],
    judge: Annotated[
        str | None, typer.Option("--judge", "-j", help="For a win rate; without, none is taken.")
    ] = None,
    chat_template: Annotated[
        str | None, typer.Option(help="Of a base model: chatml or role_colon.")
    ] = None,
    beta: Annotated[float, typer.Option(min=0, help="How strongly the start is held to.")] = 0.1,
    learning_rate: Annotated[float, typer.Option(min=0, help="Of the adapter.")] = 1e-4,
    lora_rank: Annotated[
        int | None,
        typer.Option(
            min=1, help="Rank of the adapter. Default: 32, or that of MODEL if it is one."
        ),
    ] = None,
    path: Annotated[
        Path | None, typer.Option(help="Where hh, helpsteer3 or ultrafeedback lies here.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Which column is what: chosen=good,rejected=bad.")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", "-d", help="Where the run and its recipe go.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="Any other setting: section.key=value. Repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a LoRA adapter by DPO on preference pairs, and write the page of the run."""
    dataset = dataset_settings(file, path, columns)
    called = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(file).name.partition(".")[0])
    directory = run_dir or Path("runs") / f"dpo-{called}"
    tree = draft(
        name=directory.name,
        dataset=dataset,
        model=model,
        judge=judge,
        chat_template=chat_template,
        beta=beta,
        learning_rate=learning_rate,
        lora_rank=lora_rank or rank_of(model),
    )
    last = run_recipe(begin_run(tree, directory, settings or ()), directory)
    summary, adapter = read_summary(last.directory), last.directory / "train" / "model"
    if as_json:
        say_json(json.dumps({"adapter": str(adapter), **(summary or {})}))
    elif summary:
        say(f"adapter: {adapter}")
        outcome_table(last.directory, summary)


def rank_of(model: str) -> int:
    """That of an adapter which training goes on with; 32 for a new one."""
    record = Path(model) / "adapter_config.json"
    try:
        return int(json.loads(record.read_text(encoding="utf-8"))["r"])
    except (OSError, ValueError, KeyError, TypeError):
        return _RANK


_RANK = 32
