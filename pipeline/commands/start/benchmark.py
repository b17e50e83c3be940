"""The benchmark command: inspect tasks on one model or adapter, and their scores."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from evals.benchmarks.provider import local_model
from evals.benchmarks.run import BenchmarkRun, run_benchmark
from evals.models.checkpoints import ModelSource, load_tokenizer
from evals.models.rendering import ChatRenderer
from evals.models.samplers import AutoSampler, SamplingSettings, open_sampler
from pipeline.commands.options import JsonOption
from pipeline.display.console import Console
from pipeline.display.progress import make_progress
from pipeline.display.terminal_text import say, say_json
from schemas.errors import ConfigError
from schemas.files import write_json, write_text
from schemas.stage import Runtime

_ADAPTER = "adapter_config.json"


def benchmark(
    model: Annotated[
        str, typer.Argument(metavar="MODEL[+ADAPTER]", help="A folder or hub id, and an adapter.")
    ],
    tasks: Annotated[
        str,
        typer.Option("--tasks", "-t", help="a,b: ours, or any installed."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where logs and benchmarks.json go.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Samples per task.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Completions per sample.")] = 1,
    max_tokens: Annotated[int, typer.Option(min=1, help="Where the task does not say.")] = 512,
    temperature: Annotated[float, typer.Option(min=0, help="Where the task does not say.")] = 0.0,
    chat_template: Annotated[
        str | None, typer.Option(help="Of a base model: chatml or role_colon.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run inspect tasks on a model or an adapter, and print the scores with their intervals."""
    folder = out or Path("runs") / f"benchmark-{_slug(model)}"
    folder.mkdir(parents=True, exist_ok=True)
    source = _source(model, folder, chat_template)
    settings = SamplingSettings(max_tokens=max_tokens, temperature=temperature)
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    runs = _run(names, source, settings, folder, epochs, limit)
    entries = [_entry(task, run, one) for task, run in runs.items() for one in _measures(run)]
    write_json(folder / "benchmarks.json", {"model": model, "tasks": entries})
    failed = {task: run.error for task, run in runs.items() if run.error is not None}
    if as_json:
        say_json(json.dumps({"model": model, "tasks": entries}, allow_nan=False))
    else:
        _show(entries, folder)
        for task, run in runs.items():
            if run.measured and not any(one.n for one in run.measured):
                why = run.first_failure or "see the logs"
                say(f"warning: {task}: no sample has a score: {why}", err=True)
    if failed:
        said = "; ".join(f"{task}: {error}" for task, error in failed.items())
        raise ConfigError(f"benchmark: {said}")


def _run(
    names: list[str],
    source: ModelSource,
    settings: SamplingSettings,
    folder: Path,
    epochs: int,
    limit: int | None,
) -> dict[str, BenchmarkRun]:
    renderer = ChatRenderer(load_tokenizer(source))
    sampler = open_sampler(AutoSampler(), source, Runtime())
    runs: dict[str, BenchmarkRun] = {}
    try:
        with make_progress().task("benchmarks", len(names), "tasks") as progress:
            for task in names:
                runs[task] = run_benchmark(
                    task,
                    local_model(
                        "model", sampler, settings, lambda prompt: len(renderer.prompt_ids(prompt))
                    ),
                    log=folder / "logs" / f"{_slug(task)}.eval",
                    epochs=epochs,
                    limit=limit,
                )
                progress.advance()
    finally:
        sampler.close()
    return runs


def _source(text: str, folder: Path, chat_template: str | None) -> ModelSource:
    """The model, or the adapter on the base that is named before it.

    Raises:
        ConfigError: what stands behind the plus is no adapter.
    """
    base, plus, adapter = text.partition("+")
    if not plus:
        return ModelSource(path=text, chat_template=chat_template)
    record = Path(adapter) / _ADAPTER
    if not record.is_file():
        raise ConfigError(f"{adapter}: no {_ADAPTER} in it; give the folder of an adapter")
    settings: dict[str, Any] = json.loads(record.read_text())
    if settings.get("base_model_name_or_path") == base:
        return ModelSource(path=adapter, chat_template=chat_template)
    copied = folder / "adapter-on-base"
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(adapter, copied)
    named = str(Path(base).resolve()) if Path(base).is_dir() else base
    write_text(copied / _ADAPTER, json.dumps(settings | {"base_model_name_or_path": named}))
    return ModelSource(path=str(copied), chat_template=chat_template)


def _measures(run: BenchmarkRun) -> list[Any]:
    return list(run.measured) if run.error is None else [None]


def _entry(task: str, run: BenchmarkRun, measured: Any) -> dict[str, Any]:
    if measured is None:
        return {"task": task, "error": run.error}
    found = {"task": task, "scorer": measured.scorer, "metric": measured.metric}
    numbers = measured.estimate().to_json()
    return found | {"value": measured.value, "n": measured.n, **numbers, "error": None}


def _show(entries: list[dict[str, Any]], folder: Path) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("task", "scorer", "metric"):
        table.add_column(column)
    for column in ("value", "95% interval", "n"):
        table.add_column(column, justify="right")
    for entry in entries:
        if entry["error"] is None:
            table.add_row(*_cells(entry))
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print(f"logs: {folder / 'logs'} (inspect view --log-dir {folder / 'logs'})")


def _cells(entry: Mapping[str, Any]) -> list[str]:
    value = entry["value"]
    interval = ""
    if entry.get("ci_low") is not None:
        interval = f"{entry['ci_low']:.3f} to {entry['ci_high']:.3f}"
    shown = "none" if value is None else f"{value:.3f}"
    return [entry["task"], entry["scorer"], entry["metric"], shown, interval, f"{entry['n']:,}"]


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.")[-60:]
