"""The judge-pairs command: given completions or pairs into verdicts and preference pairs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from evals.files.opening.one_file import one_file
from evals.files.outputs.labelled_pairs import labelled_pairs
from evals.files.outputs.outputs import read_outputs
from evals.judge_card.card import build_card
from evals.judges.judge_spec import judge_settings
from pipeline.commands.named_run import begin_run, refuse_all_missing
from pipeline.commands.options import (
    ApiKeyOption,
    CompletionPriceOption,
    JsonOption,
    MaxCostOption,
    PromptPriceOption,
    judge_runtime,
)
from pipeline.commands.runs.run import run_recipe
from pipeline.display.console import Console
from pipeline.display.judge_card import show_card
from pipeline.display.terminal_text import say_json
from schemas.files import write_text
from schemas.manifest import Manifest, read_manifest
from schemas.parquet import read_rows
from schemas.tables import VERDICTS


def judge_pairs(
    file: Annotated[
        str,
        typer.Argument(
            help="Rows of a prompt and two answers (response_a, response_b; chosen, rejected), "
            "several (outputs), or one a row (output)."
        ),
    ],
    judge: Annotated[
        str,
        typer.Option(
            "--judge", "-j", help="length, a model's folder or hub id, openai:MODEL@URL, or a rule."
        ),
    ],
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", "-d", help="Where the tables and the recipe go.")
    ] = None,
    pairs: Annotated[
        Literal["best_vs_worst", "all_pairs"],
        typer.Option(help="Which preference pairs are made of a prompt's answers."),
    ] = "all_pairs",
    min_margin: Annotated[
        float, typer.Option(min=0, max=1, help="Least margin of a preference pair.")
    ] = 0.1,
    prompt_price: PromptPriceOption = 0.0,
    completion_price: CompletionPriceOption = 0.0,
    max_cost: MaxCostOption = None,
    api_key_env: ApiKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a judge compare given answers in both orders: verdicts, preference pairs, its card."""
    settings = judge_settings(judge, api_key_env)
    path = one_file(file, "file of answers")
    read_outputs(path, every_writer=True)  # every row is one that can be read, before any is judged
    labelled = labelled_pairs(path)
    name = file.rstrip("/").rpartition("/")[2]
    directory = run_dir or Path("runs") / f"judged-{name.partition('.')[0]}"
    tree = {
        "name": directory.name,
        "description": f"the answers of {name}, judged by {judge}",
        "runtime": judge_runtime(prompt_price, completion_price, max_cost),
        "judge": {"kind": settings.kind} | settings.model_dump(mode="json", exclude_defaults=True),
        "sample": {"outputs": [file]},
        "label": {
            "pairs": pairs,
            "min_margin": min_margin,
            "truncated": "keep",
            "require_pairs": False,
        },
    }
    done = run_recipe(begin_run(tree, directory), directory)
    folder = done.directory / "label"
    verdicts = read_rows(folder / VERDICTS.file_name, VERDICTS)
    first = verdicts[0] if verdicts else {"judge": judge, "judge_fingerprint": ""}
    units = labelled.among({row["comparison_id"] for row in verdicts})
    card = None
    if units:
        card = build_card(
            units,
            verdicts,
            judge=first["judge"],
            kind=settings.kind,
            fingerprint=first["judge_fingerprint"],
        )
        text = card if isinstance(card, Mapping) else card.to_json()
        write_text(done.directory / "card.json", json.dumps(text, indent=1, allow_nan=False) + "\n")
    found = _summary(read_manifest(folder), folder, str(first["judge"]))
    if as_json:
        card_json = None if card is None else card if isinstance(card, dict) else card.to_json()
        say_json(json.dumps({**found, "card": card_json}, allow_nan=False))
    else:
        _show(found)
        if card is not None:
            show_card(card)
    refuse_all_missing(done)


def _summary(manifest: Manifest | None, folder: Path, judge: str) -> dict[str, Any]:
    counts = manifest.counts if manifest else {}
    spent = counts.get("judge_cost_millionths")
    return {
        "judge": judge,
        "comparisons": counts.get("comparisons", 0),
        "verdicts": counts.get("verdicts", 0),
        "unscored": counts.get("unscored", 0),
        "ratings": counts.get("ratings"),
        "without_reference": counts.get("comparisons_without_reference"),
        "pairs": counts.get("pairs", 0),
        "counts": dict(counts),
        "cost": None if spent is None else spent / 1e6,
        "files": {
            name: str(folder / f"{name}.parquet")
            for name in ("comparisons", "verdicts", "preference_pairs", "rejects")
        },
    }


def _show(found: Mapping[str, Any]) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if found["ratings"] is not None:
        console.print(
            f"{found['judge']}: {found['ratings']:,} completions rated, each by itself: the "
            "verdicts follow from the ratings, and the order shown plays no part"
        )
    if found["without_reference"]:
        console.print(f"{found['without_reference']:,} comparisons have no reference answer")
    console.print(
        f"{found['judge']}: {found['verdicts']:,} verdicts on {found['comparisons']:,} "
        f"comparisons, {found['unscored']:,} unscored; {found['pairs']:,} preference pairs"
    )
    if found["cost"] is not None:
        console.print(f"cost: {found['cost']:.4g}")
    for name in ("verdicts", "preference_pairs"):
        console.print(f"{name}: {found['files'][name]}")
