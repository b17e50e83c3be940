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
from rich.text import Text
from rich.tree import Tree

from pipeline.commands.options import ExistingRunOption, JsonOption
from pipeline.display.console import Console
from pipeline.display.rows import refuse_absent_run
from pipeline.display.terminal_text import say_json, visible
from schemas.errors import MissingInputError
from schemas.hashes import known_sha256
from schemas.manifest import read_manifest

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
        say_json(json.dumps(steps, ensure_ascii=False))
    else:
        show_trace(steps)


def trace_back(row_id: str, run_dir: Path) -> list[Step]:
    """The steps from a row (by its id, or the beginning of it) to the raw file and line.

    Each step is `{"table": file, "row": values}`; the last one is `{"raw": file, "line": number,
    "text": ..., "changed": false}`, the text null where the file is not at hand, the row was
    generated, or the file is `changed`: no longer the one that ingest has read.

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
    raw = {"raw": last["file"], "line": last["row"]}
    if _is_another(run_dir, last["file"]):  # its rows may have moved: nothing of it is shown
        return [*steps, raw | {"text": None, "changed": True}]
    return [*steps, raw | {"text": _raw(last), "changed": False}]


def show_trace(steps: list[Step]) -> None:
    """Print a trace to stdout as a short tree: the row, what it was made of, the raw line."""
    *tables, raw = steps
    tree = Tree(_line(tables[0]), guide_style="dim")
    branch = tree
    for step in tables[1:]:
        is_verdict = "verdict" in step["row"]
        added = (branch if is_verdict else tree).add(_line(step))
        branch = tree if is_verdict and branch is tree else branch if is_verdict else added
    nothing = _CHANGED if raw["changed"] else "(made by the generator, or not at hand)"
    said = _one_line(raw["text"]) if raw["text"] else nothing
    where = Text.assemble(("raw ", "bold"), f"{raw['raw']}, row {raw['line']} (from 0): {said}")
    tree.add(where)
    console = Console(highlight=False)
    console.print(tree, no_wrap=True, overflow="ellipsis")
    console.print(Text("--json gives every column of every row", style="dim"))


def _line(step: Step) -> Text:
    """A row in a line: its table, the beginning of its id, and what matters of it."""
    row = step["row"]
    key = next((row[k] for h, k in _HOMES if step["table"].endswith(h) and k in row), "")
    facts = [f"{name} {_number(row[name])}" for name in _FACTS if row.get(name) is not None]
    texts = next(([row[n] for n in names] for names in _TEXTS if row.get(names[0])), [])
    said = " > ".join(f'"{_one_line(_said(text))}"' for text in texts)
    return Text.assemble(
        (step["table"].removesuffix(".parquet"), "bold"),
        (f" {str(key)[:_ID_SHOWN]}" if key else "", "cyan"),
        f" {', '.join(facts)}" if facts else "",
        f": {said}" if said else "",
    )


_CHANGED = "(not shown: the file is not the one that ingest has read)"
_ID_SHOWN = 12
_TEXT_SHOWN = 60
_FACTS = (
    *("category", "label", "margin", "judge", "order", "verdict", "unscored_reason", "p_a"),
    *("finish_reason", "num_tokens"),
)
# What a row has to say for itself, the first that it has.
_TEXTS = (("chosen", "rejected"), ("completion",), ("raw",), ("prompt",))


def _said(value: Any) -> str:
    """The words of the last turn of a conversation; of anything else, itself."""
    turns = isinstance(value, list) and value and isinstance(value[-1], dict)
    return str(value[-1].get("content", "")) if turns else str(value)


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else visible(str(value))


def _one_line(text: str) -> str:
    words = visible(" ".join(text.split()))
    return words if len(words) <= _TEXT_SHOWN else f"{words[: _TEXT_SHOWN - 1]}…"


def _folders(run_dir: Path) -> list[str]:
    """Where tables lie in a run directory: in itself, and in the folders of its later rounds."""
    return ["", *sorted(f"{path.name}/" for path in run_dir.glob("round-*"))]


def _homes(run_dir: Path) -> list[tuple[str, str]]:
    return [(folder + home, key) for folder in _folders(run_dir) for home, key in _HOMES]


def _find(row_id: str, run_dir: Path) -> Step:
    for home, column in _homes(run_dir):
        for row in _matching(run_dir / home, column, row_id):
            return {"table": home, "row": row}
    refuse_absent_run(run_dir)
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
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):  # one at a time, whole only where it is in there
            found = pc.starts_with(file.read_row_group(group, columns=[column])[column], prefix)
            if pc.any(found).as_py():
                yield from file.read_row_group(group).filter(found).to_pylist()


def _is_another(run_dir: Path, name: str) -> bool:
    """Whether a raw file is there, and not as ingest has recorded it."""
    manifest = read_manifest(run_dir / "ingest")
    recorded = manifest.payload.get("files", {}).get(name) if manifest else None
    path = Path(name)
    return recorded is not None and path.is_file() and known_sha256(path) != recorded


def _raw(row: Mapping[str, Any]) -> str | None:
    """The raw line of a JSON Lines file, or the row of a table, where it is at hand."""
    path = Path(row["file"])
    if not path.is_file():
        return None
    from stages.ingest.readers.raw_rows import read_raw_rows

    found = next(islice(read_raw_rows(path, row["file"]), row["row"], None), None)
    return None if found is None else found.raw


def _short(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict) and "content" in value[0]:
        return " | ".join(f"{m['role']}: {m['content']}" for m in value)
    return "(none)" if value is None else str(value)
