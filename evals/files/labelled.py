"""Comparisons that somebody has labelled, from a file: our table, or the benchmarks' own forms."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evals.files.external_files import read_columns
from evals.files.opening.one_file import one_file
from evals.files.outputs.labelled_pairs import labelled_pairs
from schemas.errors import DataError
from schemas.ids import comparison_id, content_id, prompt_id
from schemas.labels import Comparison, LabeledComparison, Message, Preference
from schemas.parquet import read_rows
from schemas.tables import COMPARISONS

Row = Mapping[str, Any]
Sides = tuple[str, str, str, Preference]
"""Prompt, text of A, text of B, and which is better."""


@dataclass(frozen=True)
class LabelledFile:
    """Labelled comparisons of one file, sorted by id, and where each came from.

    `sources`: comparison_id -> scenario, task or data set; None where the file does not say.
    `also_of`: comparison_id -> what else it is of: `source hh` where `sources` has its category,
    `annotator kim` for each who gave it the label that it has.
    `n_unlabelled` rows were left out. A published row that repeats another stays, under an id of
    its own, so that published numbers come out.
    """

    comparisons: Sequence[LabeledComparison]
    sources: Mapping[str, str | None]
    n_unlabelled: int = 0
    also_of: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Format:
    """A published form: the columns that tell it, how one row of it reads, and its own id."""

    columns: tuple[str, ...]
    source: str
    read: Callable[[Row], Sides]
    key: str | None = None


def _auto_j(row: Row) -> Sides:
    label = {"1": Preference.A, "2": Preference.B, "tie": Preference.TIE}[row["label"]]
    return row["prompt"], row["response_1"], row["response_2"], label


def _hhh(row: Row) -> Sides:
    """The file lists the better one first; every second comparison is exchanged, by its id."""
    sides = row["instruction"], row["chosen"], row["rejected"], Preference.A
    exchanged = row["instruction"], row["rejected"], row["chosen"], Preference.B
    return exchanged if int(_ids(sides)[0][-1], 16) % 2 else sides


def _judge_bench(row: Row) -> Sides:
    label = {"A>B": Preference.A, "B>A": Preference.B, "A=B": Preference.TIE}[row["label"]]
    return row["question"], row["response_A"], row["response_B"], label


FORMATS = {
    "Auto-J": _Format(("prompt", "response_1", "response_2", "label"), "scenario", _auto_j),
    "HHH": _Format(("instruction", "chosen", "rejected"), "source", _hhh),
    "JudgeBench": _Format(
        ("pair_id", "question", "response_A", "response_B", "label"),
        "source",
        _judge_bench,
        "pair_id",
    ),
}
"""Published forms of labelled pairs, each known by its columns."""


def read_labelled(path: Path, split: str | None = "test") -> LabelledFile:
    """The labelled comparisons of a file.

    Args:
        path: our comparisons table, Auto-J's, HHH's or JudgeBench's pairs, or rows of one's own:
            a prompt, two answers and which is better, in any form that outputs are read from.
        split: of our table; None takes both. Other files have no splits.

    Raises:
        MissingInputError: no such file.
        DataError: none of these, or nothing labelled in it; the message names the row.
    """
    found = one_file(str(path))
    if not _is_parquet(found):
        return _own(path, found)
    columns = set(read_columns(path, ()).column_names)
    if COMPARISONS.required <= columns:
        return _ours(path, split)
    for form in FORMATS.values():
        if set(form.columns) <= columns:
            return _foreign(path, form)
    return _own(path, found)


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1" or path.suffix == ".parquet"


def _own(path: Path, found: Path) -> LabelledFile:
    """Labelled pairs under the names that people give them."""
    units = labelled_pairs(found).units
    if not units:
        known = "; ".join(f"{name} {', '.join(f.columns)}" for name, f in FORMATS.items())
        raise DataError(
            f"{path}: neither our comparisons table nor a known form of pairs ({known}), nor rows "
            "of prompt, response_a, response_b and preference (A, B or tie)"
        )
    return LabelledFile([units[key] for key in sorted(units)], dict.fromkeys(units))


def labeled_comparison(row: Row) -> LabeledComparison:
    """A labelled row of COMPARISONS."""
    names = ("comparison_id", "prompt_id", "prompt", "completion_a", "completion_b")
    return LabeledComparison(
        Comparison(**{name: row[name] for name in names}, reference=row.get("reference")),
        label=Preference(row["label"]),
        strength=row["strength"],
        annotations=_people(row),
    )


def _people(row: Row) -> tuple[Preference, ...]:
    """What each person said; a model's ratings of several aspects are no people."""
    if row["label_source"] != "human":
        return ()
    return tuple(Preference(a["label"]) for a in row["annotations"] if a["label"] is not None)


def _ours(path: Path, split: str | None) -> LabelledFile:
    rows = [r for r in read_rows(path, COMPARISONS) if split is None or r["split"] == split]
    kept = sorted(
        (r for r in rows if r["label"] is not None), key=lambda r: str(r["comparison_id"])
    )
    if not kept:
        of = f" of split {split}" if split else ""
        raise DataError(f"{path}: no labelled comparisons{of} among {len(rows)} rows")
    return LabelledFile(
        [labeled_comparison(row) for row in kept],
        {row["comparison_id"]: row["category"] or row["source"] for row in kept},
        n_unlabelled=len(rows) - len(kept),
        also_of={row["comparison_id"]: _also_of(row) for row in kept},
    )


def _also_of(row: Row) -> list[str]:
    source = [f"source {row['source']}"] if row["category"] else []
    agreeing = dict.fromkeys(
        f"annotator {said['annotator']}"
        for said in row["annotations"] or ()
        if said["annotator"] is not None and said["label"] == row["label"]
    )
    return [*source, *agreeing]


def _foreign(path: Path, form: _Format) -> LabelledFile:
    found: dict[str, LabeledComparison] = {}
    sources: dict[str, str | None] = {}
    for unit, source in _rows(path, form):
        key = unit.comparison.comparison_id
        if key in found:
            key = content_id("comparison-repeated", key, str(len(found)))
            unit = replace(unit, comparison=replace(unit.comparison, comparison_id=key))
        found[key], sources[key] = unit, source
    return LabelledFile([found[key] for key in sorted(found)], sources)


def _rows(path: Path, form: _Format) -> Iterator[tuple[LabeledComparison, str | None]]:
    for index, row in enumerate(read_columns(path, form.columns).to_pylist()):
        try:
            sides = form.read(row)
        except KeyError as error:
            raise DataError(f"{path}: row {index}: label is {error}, which is none") from error
        if not all(isinstance(text, str) for text in sides[:3]):
            raise DataError(f"{path}: row {index}: prompt and both answers must be texts")
        key, asked, messages = _ids(sides)
        comparison = Comparison(str(row[form.key]) if form.key else key, asked, *messages)
        yield LabeledComparison(comparison, sides[3]), row.get(form.source)


def _ids(sides: Sides) -> tuple[str, str, tuple[list[Message], list[Message], list[Message]]]:
    prompt: list[Message] = [{"role": "user", "content": sides[0]}]
    a: list[Message] = [{"role": "assistant", "content": sides[1]}]
    b: list[Message] = [{"role": "assistant", "content": sides[2]}]
    return comparison_id(prompt, a, b), prompt_id(prompt), (prompt, a, b)
