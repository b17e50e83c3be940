"""One row of a raw file, as ingest reads it: no run, no recipe, no table needed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import ConfigError

if TYPE_CHECKING:
    from stages.ingest.examples import Example, RowError
    from stages.ingest.raw_rows import RawRow

RAW_SUFFIXES = (".jsonl", ".json", ".ndjson", ".gz", ".zst")
# Where no kind is named, the first of these that understands the row; the strictest first.
_GUESSES = ("ultrafeedback_openbmb", "arena", "helpsteer3", "ultrafeedback", "hh", "jsonl")


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
        from dataclasses import asdict, is_dataclass

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
    """Whether that is a raw file: a kind says so, or its name does."""
    return Path(what).is_file() and (kind is not None or what.endswith(RAW_SUFFIXES))


def read_raw(what: str, row: int, kind: str | None) -> ShownRaw:
    """Row `row` of a raw file, read as `kind`, or as the first kind that understands it.

    Raises:
        ConfigError: no such kind, or no such row.
        DataError: the file cannot be read.
    """
    origin = _nth(_rows(what), row, what)
    for guess in (kind,) if kind else _GUESSES:
        outcomes = _outcomes(guess, what, origin)
        if kind or not hasattr(outcomes[0], "reason"):
            return _shown(origin, guess, outcomes)
    return _shown(origin, None, outcomes)


def _shown(
    origin: "RawRow", kind: str | None, outcomes: Sequence["Example | RowError"]
) -> ShownRaw:
    value = dict(origin.value) if isinstance(origin.value, Mapping) else origin.raw
    return ShownRaw(origin.file, origin.row, kind, value, outcomes)


def _rows(what: str) -> Iterator["RawRow"]:
    from stages.ingest.raw_rows import read_jsonl, read_parquet

    path = Path(what)
    return read_parquet(path, what, ((),)) if what.endswith(".parquet") else read_jsonl(path, what)


def _nth(rows: Iterator["RawRow"], row: int, what: str) -> "RawRow":
    if row < 0:
        raise ConfigError(f"{what}: --row {row}: rows of a raw file are counted from its beginning")
    found = next(islice(rows, row, None), None)
    if found is None:
        raise ConfigError(f"{what}: has no row {row} (rows count from 0); give a smaller --row")
    return found


def _outcomes(kind: str, what: str, origin: "RawRow") -> Sequence["Example | RowError"]:
    from pydantic import TypeAdapter, ValidationError

    from stages.ingest.datasets import Dataset

    try:
        dataset: Any = TypeAdapter(Dataset).validate_python({"kind": kind, "path": what})
    except ValidationError as error:
        raise ConfigError(f"--kind {kind}: {error.errors()[0]['msg']}") from error
    found: Sequence[Example | RowError] = dataset.outcomes(origin)
    return found


def show_raw(shown: ShownRaw) -> None:
    """Print what a raw row was read as; where it was rejected, why, and the row itself."""
    import json

    from rich.console import Console
    from rich.text import Text

    from pipeline.show import visible

    console = Console()
    kind = f"read as {shown.kind}" if shown.kind else "understood by no kind"
    console.print(Text(visible(f"{shown.file} row {shown.row}, {kind}"), style="bold"))
    for outcome in shown.outcomes:
        if hasattr(outcome, "reason"):
            console.print(Text(f"rejected: {outcome.reason}: {visible(outcome.detail)}", "red"))
            raw = json.dumps(shown.value, ensure_ascii=False, indent=1, default=str)
            console.print(Text(visible(raw)))
        else:
            _show_example(console, outcome)


def _show_example(console: Any, example: Any) -> None:
    from rich.text import Text

    from pipeline.show import conversation_panel, visible

    console.print(conversation_panel("prompt", example.prompt, None))
    for name, messages, said in _answers(example):
        console.print(conversation_panel(name, messages, said))
    for name in ("strength", "label_source", "category", "language"):
        value = getattr(example, name, None)
        if value is not None:
            console.print(Text.assemble((f"{name}: ", "dim"), visible(str(value))))
    for said in getattr(example, "annotations", ()):
        strength = "" if said.strength is None else f" by {said.strength:g}"
        who, why = said.annotator or "annotator", f": {said.reason}" if said.reason else ""
        console.print(Text(visible(f"  {who} says {said.label}{strength}{why}"), "dim"))


def _answers(example: Any) -> Iterator[tuple[str, Any, str | None]]:
    """(title, turns, chosen or rejected or tie) of the answers, the preferred one first."""
    if hasattr(example, "completion"):
        yield "completion", example.completion, None
    if not hasattr(example, "label"):
        return
    a, b = example.completion_a, example.completion_b
    if example.label == "Tie":
        yield "completion A", a, "tie"
        yield "completion B", b, "tie"
        return
    chosen, rejected = (a, b) if example.label == "A" else (b, a)
    yield "chosen", chosen, "chosen"
    yield "rejected", rejected, "rejected"
