"""One row of any table, legibly: conversations, labels, scores, provenance."""

from collections.abc import Iterator, Mapping, Sequence
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
_SIDES = {"completion_a": "A", "completion_b": "B"}
_PROVENANCE = {"source", "file", "row"}
# Frame and words for what a row says of a conversation.
_SAID = {
    "chosen": ("green", "preferred"),
    "rejected": ("red", "not preferred"),
    "tie": ("yellow", "tie"),
}


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
    """Print a row to stdout: conversations as panels, then labels and scores, then provenance."""
    console = Console()
    console.print(Text(title, style="bold"))
    for name, value in row.items():
        if _is_conversation(value):
            console.print(conversation_panel(name, value, _said_of(name, row)))
    for name, value in row.items():
        if name not in _PROVENANCE and not _is_conversation(value):
            for line in _lines(name, value):
                console.print(line)
    if "file" in row and "row" in row:
        console.print(_provenance(row))


def _said_of(name: str, row: Mapping[str, Any]) -> str | None:
    """What the row says of one of its conversations: preferred, not preferred, tie, or nothing."""
    if name in ("chosen", "rejected"):
        return name
    label = row.get("label") or row.get("verdict")
    if name not in _SIDES or label is None:
        return None
    return "tie" if label == "Tie" else "chosen" if label == _SIDES[name] else "rejected"


def conversation_panel(name: str, messages: Sequence[Mapping[str, str]], said: str | None) -> Panel:
    """Turns in a frame; what was said of them is in its title and colour."""
    style, words = _SAID.get(said or "", ("none", ""))
    title = Text(name, style=f"bold {style}" if said else "bold")
    if words and said != name:
        title.append(f"  {words}", style=style)
    return Panel(_conversation(messages), title=title, title_align="left", border_style=style)


def _lines(name: str, value: Any) -> Iterator[Text]:
    """A value as one line, or a list of objects as one line each."""
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        yield Text.assemble((f"{name}: ", "dim"), visible(_plain(value)))
        return
    yield Text(f"{name}:", style="dim")
    for item in value:
        said = ((k, v) for k, v in item.items() if v is not None)
        yield Text("  " + ", ".join(f"{k} {visible(_plain(v))}" for k, v in said))


def _provenance(row: Mapping[str, Any]) -> Text:
    source = f"{visible(str(row['source']))}: " if row.get("source") else ""
    return Text.assemble(("from: ", "dim"), f"{source}{visible(row['file'])}, row {row['row']}")


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
    if not messages:
        text.append("(no turns)", style="dim")
    for index, message in enumerate(messages):
        style = _ROLE_STYLES.get(message["role"], "yellow")
        text.append("\n" if index else "")
        text.append(f"{message['role']}: ", style=f"bold {style}")
        text.append(visible(message["content"]) or "(empty)")
    return text
