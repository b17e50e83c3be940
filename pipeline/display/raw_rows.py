"""One row of a raw file or hub data set, as ingest reads it: no run, no recipe, no table needed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.rule import Rule
from rich.text import Text

from pipeline.display.console import Console
from pipeline.display.rows import annotation_lines, pick_slice, plain_value, say, show_conversation
from pipeline.display.terminal_text import visible
from schemas.errors import ConfigError
from schemas.tables import TABLES
from stages.ingest.datasets.detect_format import Outcomes, guess, read_as
from stages.ingest.readers.columns import GUESSES, OWN_KINDS
from stages.ingest.readers.raw_rows import RawRow, read_raw_rows, row_value, rows_of_tables
from stages.ingest.readers.tables import read_hub

RAW_SUFFIXES = (".jsonl", ".json", ".ndjson", ".gz", ".zst", ".csv", ".tsv", ".arrow", ".feather")
_HUB = "hub:"
_HUB_FORM = "hub:OWNER/NAME@REVISION/SPLIT, or with a configuration before the split"


@dataclass(frozen=True)
class ShownRaw:
    """A raw row and what it was read as; `kind` is None where no kind understands it."""

    file: str
    row: int
    kind: str | None
    value: Any
    outcomes: Sequence[Any]

    def as_json(self) -> dict[str, Any]:
        """The raw row, and its comparisons or what is wrong with it, as plain values."""
        read = [asdict(o) for o in self.outcomes if is_dataclass(o) and not isinstance(o, type)]
        errors = [
            {"reason": o.reason, "detail": o.detail} for o in self.outcomes if hasattr(o, "reason")
        ]
        return {
            "file": self.file,
            "row": self.row,
            "kind": self.kind,
            "read": read,
            "rejected": errors,
            "raw": self.value,
        }


def is_raw(what: str, kind: str | None) -> bool:
    """Whether that is raw: of a hub, or a file of a named kind, or one that is no table of ours."""
    if what.startswith(_HUB):
        return True
    if not Path(what).is_file():
        return False
    return kind is not None or what.endswith(RAW_SUFFIXES) or _is_foreign_parquet(Path(what))


def _is_foreign_parquet(path: Path) -> bool:
    """Whether it is a Parquet file without a declared table's columns."""
    try:
        names = set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        return False
    return not any(names >= table.required for table in TABLES.values())


def read_raw(what: str, row: int, kind: str | None) -> ShownRaw:
    """Row `row` of raw data, read as `kind`, or as the first kind that it has the shape of.

    Raises:
        ConfigError: no such kind, or no such row.
        DataError: the file cannot be read.
        BackendError: the hub's data set cannot be had.
    """
    if kind is not None and kind not in (known := (*GUESSES, *OWN_KINDS[1:])):
        raise ConfigError(f"--kind {kind}: unknown kind: one of {', '.join(known)}")
    origin = _origin(what, row)
    if kind is not None:
        return _shown(origin, kind, read_as(kind, origin))
    return _shown(origin, *guess(origin))


def _shown(origin: "RawRow", kind: str | None, outcomes: "Outcomes") -> ShownRaw:
    value = dict(origin.value) if isinstance(origin.value, Mapping) else origin.raw
    return ShownRaw(origin.file, origin.row, kind, value, outcomes)


def _origin(what: str, row: int) -> "RawRow":
    if what.startswith(_HUB):
        return _nth(_hub_rows(what), row, what)
    if not _is_parquet(what):
        return _nth(read_raw_rows(Path(what), what), row, what)
    found, position, _ = pick_slice(Path(what), row, None)
    value, undecodable = row_value(found)
    return RawRow(what, position, value, undecodable)


def _is_parquet(what: str) -> bool:
    with open(what, "rb") as file:
        return file.read(4) == b"PAR1" or what.endswith(".parquet")


def _hub_rows(what: str) -> Iterator["RawRow"]:
    """Rows as they come from the hub: no more is fetched than what is shown."""
    hub_id, _, rest = what.removeprefix(_HUB).partition("@")
    revision, *subset, split = rest.split("/") if "/" in rest else ("", "")
    if not (hub_id and revision and split) or len(subset) > 1:
        raise ConfigError(f"{what}: write {_HUB_FORM}")
    named = subset[0] if subset else None
    tables = read_hub(
        hub_id, revision=revision, subset=named, folder=None, split=split, streaming=True
    )
    return rows_of_tables(what, tables)


def _nth(rows: Iterator["RawRow"], row: int, what: str) -> "RawRow":
    if row < 0:
        raise ConfigError(f"{what}: --row {row}: rows of a raw file are counted from its beginning")
    found = next(islice(rows, row, None), None)
    if found is None:
        raise ConfigError(f"{what}: has no row {row} (rows count from 0); give a smaller --row")
    return found


def show_raw(shown: ShownRaw) -> None:
    """Print what a raw row was read as; where it was rejected, why, and the row itself."""
    console = Console()
    kind = f"read as {shown.kind}" if shown.kind else "understood by no kind"
    say(console, Text(visible(f"{shown.file} row {shown.row}, {kind}"), style="bold"))
    for outcome in shown.outcomes:
        if hasattr(outcome, "reason"):
            say(console, Text(f"rejected: {outcome.reason}: {visible(outcome.detail)}", "red"))
            raw = json.dumps(shown.value, ensure_ascii=False, indent=1, default=str)
            say(console, Text(visible(raw)))
        else:
            _show_example(console, outcome)


def _show_example(console: Any, example: Any) -> None:
    show_conversation(console, "prompt", example.prompt, None)
    for name, messages, said in _answers(example):
        show_conversation(console, name, messages, said)
    console.print(Rule(style="dim"))
    for name in ("strength", "label_source", "category", "language"):
        value = getattr(example, name, None)
        if value is not None:
            say(console, Text.assemble((f"{name}: ", "dim"), visible(plain_value(value))))
    for said in getattr(example, "annotations", ()):
        for line in annotation_lines(asdict(said)):
            say(console, line)


def _answers(example: Any) -> Iterator[tuple[str, Any, str | None]]:
    """(title, turns, chosen or rejected or tie) of the answers, the preferred one first.

    Annotations speak of A and B, so that titles do too where there are any.
    """
    if not hasattr(example, "label"):
        if hasattr(example, "completion"):
            yield "completion", example.completion, None
        return
    sides = {"A": example.completion_a, "B": example.completion_b}
    if example.label == "Tie":
        for side, turns in sides.items():
            yield f"completion {side}", turns, "tie"
        return
    order = ("A", "B") if example.label == "A" else ("B", "A")
    for said, side in zip(("chosen", "rejected"), order, strict=True):
        yield f"{said} ({side})" if example.annotations else said, sides[side], said
