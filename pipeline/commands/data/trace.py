"""The way of a pair back to the raw file: pair, verdicts, completions, prompt, line."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.text import Text

from pipeline.commands.options import ExistingRunOption, JsonOption
from pipeline.display.terminal_text import visible
from schemas.errors import MissingInputError

# Where each kind of id lives: table file (in the order to search) and id column.
_HOMES = (
    ("label/preference_pairs.parquet", "pair_id"),
    ("label/comparisons.parquet", "comparison_id"),
    ("evaluate/comparisons.parquet", "comparison_id"),
    ("ingest/comparisons.parquet", "comparison_id"),
    ("sample/completions.parquet", "completion_id"),
    ("evaluate/completions_policy.parquet", "completion_id"),
    ("evaluate/completions_baseline.parquet", "completion_id"),
    ("ingest/demonstrations.parquet", "demonstration_id"),
    ("ingest/prompts.parquet", "prompt_id"),
)
_VERDICTS = ("label/verdicts.parquet", "evaluate/verdicts.parquet", "judge/verdicts.parquet")

Step = dict[str, Any]


def trace(
    row_id: Annotated[str, typer.Argument(help="A pair, comparison, completion or prompt id.")],
    run_dir: ExistingRunOption = Path("runs/food"),
    as_json: JsonOption = False,
) -> None:
    """Follow a pair back through verdicts and completions to its raw file and line."""
    steps = trace_back(row_id, run_dir)
    if as_json:
        typer.echo(json.dumps(steps, ensure_ascii=False))
    else:
        show_trace(steps)


def trace_back(row_id: str, run_dir: Path) -> list[Step]:
    """The steps from a row (by its id, or the beginning of it) to the raw file and line.

    Each step is `{"table": file, "row": values}`; the last one is `{"raw": file, "line": number,
    "text": ...}`, the text null where the file is not at hand or the row was generated.

    Raises:
        MissingInputError: no table of the run has such an id.
    """
    if re.fullmatch(r"round-\d+", run_dir.name):
        run_dir = run_dir.parent
    start = _find(row_id, run_dir)
    steps = [start]
    row = start["row"]
    if "pair_id" in row:
        steps += _rows(run_dir, "comparison_id", row["comparison_id"])
    comparison = row.get("comparison_id")
    if comparison:
        steps += _verdicts(run_dir, comparison)
    ids = {row.get(k) for k in ("chosen_id", "rejected_id", "completion_a_id", "completion_b_id")}
    for completion in sorted(i for i in ids if i):
        steps += _rows(run_dir, "completion_id", completion)
    if "prompt_id" in row and not start["table"].endswith("ingest/prompts.parquet"):
        steps += _rows(run_dir, "prompt_id", row["prompt_id"])
    last = steps[-1]["row"]
    return [*steps, {"raw": last["file"], "line": last["row"], "text": _raw(last)}]


def show_trace(steps: list[Step]) -> None:
    """Print a trace to stdout, one step a block, raw data last."""
    console = Console()
    for step in steps:
        if "raw" in step:
            line = f"{step['raw']}, row {step['line']} (from 0)"
            console.print(Text.assemble(("raw  ", "bold"), line))
            console.print(Text(visible(step["text"] or "(made by the generator, or not at hand)")))
            continue
        console.print(Text.assemble((f"{step['table']}", "bold")))
        for key, value in step["row"].items():
            console.print(Text.assemble((f"  {key}: ", "dim"), visible(_short(value))))


def _folders(run_dir: Path) -> list[str]:
    """Where tables lie in a run directory: in itself, and in the folders of its later rounds."""
    return ["", *sorted(f"{path.name}/" for path in run_dir.glob("round-*"))]


def _homes(run_dir: Path) -> list[tuple[str, str]]:
    return [(folder + home, key) for folder in _folders(run_dir) for home, key in _HOMES]


def _find(row_id: str, run_dir: Path) -> Step:
    for home, column in _homes(run_dir):
        for row in _matching(run_dir / home, column, row_id):
            return {"table": home, "row": row}
    raise MissingInputError(
        f"{row_id}: no pair, comparison, completion or prompt of {run_dir} has such an id"
    )


def _rows(run_dir: Path, column: str, value: str) -> list[Step]:
    """The first table that holds the id as its own key."""
    for home, key in _homes(run_dir):
        if key == column:
            found = [{"table": home, "row": r} for r in _matching(run_dir / home, column, value)]
            if found:
                return found[:1]
    return []


def _verdicts(run_dir: Path, comparison_id: str) -> list[Step]:
    return [
        {"table": home, "row": row}
        for folder in _folders(run_dir)
        for home in (folder + name for name in _VERDICTS)
        for row in _matching(run_dir / home, "comparison_id", comparison_id)
    ]


def _matching(path: Path, column: str, prefix: str) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    table = pq.read_table(path)
    yield from table.filter(pc.starts_with(table[column], prefix)).to_pylist()


def _raw(row: Mapping[str, Any]) -> str | None:
    """The raw line of a JSONL file, or the row of a Parquet file, where it is at hand."""
    path = Path(row["file"])
    if not path.is_file():
        return None
    if path.suffix == ".parquet":
        return str(pq.read_table(path).slice(row["row"], 1).to_pylist()[0])
    from stages.ingest.readers.raw_rows import read_jsonl

    found = next(islice(read_jsonl(path, row["file"]), row["row"], None), None)
    return None if found is None else found.raw


def _short(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict) and "content" in value[0]:
        return " | ".join(f"{m['role']}: {m['content']}" for m in value)
    return "(none)" if value is None else str(value)
