"""One row of any table, legibly: conversations, labels, scores, provenance."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from schemas.errors import ConfigError, DataError, MissingInputError

_ROLE_STYLES = {"user": "cyan", "assistant": "green", "system": "magenta"}


def find_table(name: str, run_dir: Path) -> Path:
    """The file of a table: a path as it is, else `stage/table` or `table` in a run directory.

    Raises:
        MissingInputError: no such table; the message lists those that are there.
    """
    if Path(name).is_file():
        return Path(name)
    stage, _, table = name.rpartition("/")
    found = sorted(run_dir.glob(f"{stage or '*'}/{table}.parquet"))
    finished = [p for p in found if not p.parent.name.endswith((".partial", ".old"))]
    if finished:
        return finished[0]
    known = sorted(str(p.relative_to(run_dir).with_suffix("")) for p in run_dir.glob("*/*.parquet"))
    there = f"; there are {', '.join(known)}" if known else f"; {run_dir} has no tables"
    raise MissingInputError(f"{name}: no such table{there}")


def pick_row(path: Path, row: int, row_id: str | None) -> tuple[dict[str, Any], int, int]:
    """A row by number or by the beginning of its id; with its position and the row count.

    Raises:
        ConfigError: no such row, or several rows for the id.
        DataError: the file is not Parquet.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from error
    count = table.num_rows
    if row_id is not None:
        row = _row_of(table, row_id, path)
    if not -count <= row < count:
        raise ConfigError(f"{path}: has {count} rows; --row {row} is not one of them")
    chosen: dict[str, Any] = table.slice(row % count, 1).to_pylist()[0]
    return chosen, row % count, count


def _row_of(table: pa.Table, row_id: str, path: Path) -> int:
    column = table.column_names[0]
    rows = pc.indices_nonzero(pc.starts_with(table[column], row_id)).to_pylist()
    if not rows:
        raise ConfigError(f"{path}: no {column} begins with {row_id}")
    return int(rows[0])


def show_row(row: Mapping[str, Any], title: str) -> None:
    """Print a row to stdout: conversations as panels, everything else as lines."""
    console = Console()
    console.print(Text(title, style="bold"))
    for name, value in row.items():
        if _is_conversation(value):
            console.print(Panel(_conversation(value), title=name, title_align="left"))
        else:
            console.print(Text.assemble((f"{name}: ", "dim"), visible(_plain(value))))


def visible(text: str) -> str:
    """Text with control characters escaped, so that a row cannot drive the terminal."""
    return "".join(c if c in "\n\t" or c.isprintable() else repr(c)[1:-1] for c in text)


def _plain(value: Any) -> str:
    return "(none)" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _is_conversation(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], dict)
        and set(value[0]) == {"role", "content"}
    )


def _conversation(messages: Sequence[Mapping[str, str]]) -> Text:
    text = Text()
    for index, message in enumerate(messages):
        style = _ROLE_STYLES.get(message["role"], "yellow")
        text.append("\n" if index else "")
        text.append(f"{message['role']}: ", style=f"bold {style}")
        text.append(visible(message["content"]) or "(empty)")
    return text
