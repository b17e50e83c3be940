"""One row of any table, legibly: conversations, labels, scores, provenance."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.rule import Rule
from rich.text import Text

from pipeline.display.console import Console
from pipeline.display.terminal_text import visible
from schemas.errors import ConfigError, DataError, MissingInputError
from schemas.files import first_line
from schemas.parquet import rows_of

_ROLE_STYLES = {"user": "cyan", "assistant": "green", "system": "magenta"}
_SIDES = {"completion_a": "A", "completion_b": "B"}
_UNFINISHED = (".partial", ".old")
_PROVENANCE = {"source", "file", "row"}
# Colour and words for what a row says of a conversation.
_SAID = {
    "chosen": ("green", "preferred"),
    "rejected": ("red", "not preferred"),
    "tie": ("yellow", "tie"),
}


def refuse_absent_run(run_dir: Path) -> None:
    """Raises MissingInputError where there is no run directory; it names those that are there."""
    if run_dir.is_dir():
        return
    runs = sorted(str(path.parent) for path in Path("runs").glob("*/run.json"))
    there = f" (there are {', '.join(runs[:6])}{', ...' * (len(runs) > 6)})" if runs else ""
    raise MissingInputError(f"{run_dir}: no run is there; name one with --run-dir{there}")


def find_table(name: str, run_dir: Path) -> Path:
    """The file of a table: a path as it is, else `stage/table` or `table` in a run directory.

    Raises:
        ConfigError: that is a folder.
        MissingInputError: no such table; the message lists those that are there.
    """
    if Path(name).is_file():
        return Path(name)
    stage, _, table = name.rpartition("/")
    there = [p for p in run_dir.glob("*/*.parquet") if not p.parent.name.endswith(_UNFINISHED)]
    wanted = [run_dir / f"{name}.parquet"] if stage else [p for p in there if p.stem == table]
    if found := sorted(p for p in wanted if p.is_file()):
        return found[0]
    if Path(name).is_dir():
        inside = sorted(p for p in Path(name).rglob("*") if p.is_file())
        such_as = f", such as {inside[0]}" if inside else ""
        raise ConfigError(f"{name}: is a folder; give one of its files{such_as}")
    if "." not in table:
        refuse_absent_run(run_dir)
    known = sorted(str(p.relative_to(run_dir).with_suffix("")) for p in there)
    listed = f"there are {', '.join(known)}" if known else f"{run_dir} has no tables"
    raise MissingInputError(f"{name}: no such table{' or file' * ('.' in table)}; {listed}")


def pick_row(path: Path, row: int, row_id: str | None) -> tuple[dict[str, Any], int, int]:
    """A row by number or by the beginning of its id; with its position and the row count.

    Several rows with the same id, such as a comparison's verdicts, are told apart by `row`.

    Raises:
        ConfigError: no such row, or several ids begin like that.
        DataError: the file is not Parquet.
    """
    found, position, count = pick_slice(path, row, row_id)
    return rows_of(found)[0], position, count


def pick_slice(path: Path, row: int, row_id: str | None) -> tuple[pa.Table, int, int]:
    """The same as a table of one row; only the row's own part of the file is read."""
    try:
        with pq.ParquetFile(path) as file:
            count = file.metadata.num_rows
            rows = range(count) if row_id is None else _rows_of(file, row_id, path)
            if not -len(rows) <= row < len(rows):
                like = "" if row_id is None else f" whose id begins with {row_id}"
                raise ConfigError(
                    f"{path}: has {len(rows)} rows{like}; --row {row} is none of them"
                )
            return _slice(file, rows[row]), rows[row], count
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not a Parquet file ({first_line(error)}); show reads tables, "
            "Parquet and JSON Lines"
        ) from error


def _slice(file: pq.ParquetFile, row: int) -> pa.Table:
    for group in range(file.num_row_groups):
        size = file.metadata.row_group(group).num_rows
        if row < size:
            return file.read_row_group(group).slice(row, 1)
        row -= size
    raise AssertionError("the file has fewer rows than it says")


def _rows_of(file: pq.ParquetFile, row_id: str, path: Path) -> list[int]:
    schema = file.schema_arrow
    names = [f.name for f in schema if f.name.endswith("_id") and pa.types.is_string(f.type)]
    if not names:
        raise ConfigError(f"{path}: its rows have no id; give --row")
    ids = file.read([names[0]])[names[0]]
    rows: list[int] = pc.indices_nonzero(pc.starts_with(ids, row_id)).to_pylist()
    if not rows:
        raise ConfigError(f"{path}: no {names[0]} begins with {row_id}")
    different = sorted(set(ids.take(rows).to_pylist()))
    if len(different) > 1:
        listed = ", ".join(different[:3]) + ", ..." * (len(different) > 3)
        raise ConfigError(f"{path}: {len(different)} ids begin with {row_id}: {listed}; give more")
    return rows


def show_row(row: Mapping[str, Any], title: str) -> None:
    """Print a row to stdout: conversations, then labels and scores, then provenance."""
    console = Console()
    say(console, Text(visible(title), style="bold"))
    for name, value in row.items():
        if _is_conversation(value):
            show_conversation(console, name, value, _said_of(name, row))
    console.print(Rule(style="dim"))
    for name, value in row.items():
        if name not in _PROVENANCE and not _is_conversation(value):
            for line in _lines(name, value):
                say(console, line)
    if "file" in row and "row" in row:
        say(console, _provenance(row))


def say(console: Console, text: Text) -> None:
    """Print a text: folded between words on a terminal, as it is into a pipe."""
    console.print(text, soft_wrap=not console.is_terminal)


def _said_of(name: str, row: Mapping[str, Any]) -> str | None:
    """What the row says of one of its conversations: preferred, not preferred, tie, or nothing."""
    if name in ("chosen", "rejected"):
        return name
    label = row.get("label") or row.get("verdict")
    if name not in _SIDES or label is None:
        return None
    return "tie" if label == "Tie" else "chosen" if label == _SIDES[name] else "rejected"


def show_conversation(
    console: Console, name: str, messages: Sequence[Mapping[str, Any]], said: str | None
) -> None:
    """Print turns below a line with their name; what was said of them is in its words and colour.

    There is no frame around them: terminals disagree on how wide emoji and some scripts are.
    """
    style, words = _SAID.get(said or "", ("none", ""))
    title = Text(name, style=f"bold {style}" if said else "bold")
    if words and said != name.partition(" ")[0]:
        title.append(f"  {words}", style=style)
    console.print(Rule(title, align="left", style=style))
    say(console, _conversation(messages))


def _lines(name: str, value: Any) -> Iterator[Text]:
    """A value as one line, or a list of objects as one line each."""
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        yield Text.assemble((f"{name}: ", "dim"), visible(plain_value(value)))
        return
    yield Text(f"{name}:", style="dim")
    for item in value:
        if {"label", "reason"} <= set(item):
            yield from annotation_lines(item)
        else:
            said = ((k, v) for k, v in item.items() if v is not None)
            yield Text("  " + ", ".join(f"{k} {visible(plain_value(v))}" for k, v in said))


def annotation_lines(said: Mapping[str, Any]) -> Iterator[Text]:
    """What one annotator said: of both sides in one line, and of each in one of its own."""
    strength = f" by {said['strength']:g}" if said.get("strength") else ""
    reason = f": {said['reason']}" if said.get("reason") else ""
    who = said.get("annotator") or "annotator"
    yield Text(visible(f"  {who} says {said['label']}{strength}{reason}"))
    for side in "ab":
        if said.get(f"feedback_{side}"):
            yield Text(visible(f"    of {side.upper()}: {said[f'feedback_{side}']}"))


def _provenance(row: Mapping[str, Any]) -> Text:
    source = f"{visible(str(row['source']))}: " if row.get("source") else ""
    return Text.assemble(("from: ", "dim"), f"{source}{visible(row['file'])}, row {row['row']}")


def plain_value(value: Any) -> str:
    """A value in few characters."""
    return "(none)" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _is_conversation(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], dict)
        and set(value[0]) >= {"role", "content"}
    )


def _conversation(messages: Sequence[Mapping[str, Any]]) -> Text:
    text = Text()
    if not messages:
        text.append("(no turns)", style="dim")
    for index, message in enumerate(messages):
        style = _ROLE_STYLES.get(message["role"], "yellow")
        text.append("\n" if index else "")
        text.append(f"{visible(str(message['role']))}: ", style=f"bold {style}")
        text.append(visible(str(message["content"])) or "(empty)")
        for name, value in message.items():
            if name not in ("role", "content") and value is not None:
                text.append(f"\n  {name}: ", style="dim")
                text.append(visible(plain_value(value)))
    return text
