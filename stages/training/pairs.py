"""Preference pairs to train on: from the label stage, or straight from people's comparisons."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from schemas.ids import pair_id
from schemas.labels import Preference
from schemas.parquet import read_rows
from schemas.stage import StageContext
from schemas.tables import COMPARISONS, PREFERENCE_PAIRS
from stages.training.dpo import PairExample
from stages.training.rendering import render_or_reject
from stages.training.screening import Rejects

if TYPE_CHECKING:
    from evals.models.rendering import ChatRenderer

Row = Mapping[str, Any]


def labelled_pairs(context: StageContext) -> list[Row]:
    """The pairs that the label stage has written, in this round and in those mixed in."""
    names = ["label", *(name for name in context.inputs if name.startswith("label@"))]
    tables = [context.input(name, PREFERENCE_PAIRS.file_name) for name in names]
    return [row for table in tables for row in read_rows(table, PREFERENCE_PAIRS)]


def human_pairs(context: StageContext, split: str | None = None) -> list[Row]:
    """Ingest's comparisons (of one split, where given) as rows with `chosen` and `rejected`.

    A tie or a missing label leaves both as None; `screen_pairs` sets such rows aside.
    """
    rows = read_rows(context.input("ingest", COMPARISONS.file_name), COMPARISONS)
    return [_as_pair(row) for row in rows if split in (None, row["split"])]


def _as_pair(row: Row) -> Row:
    a, b = row["completion_a"], row["completion_b"]
    sides = {Preference.A: (a, b), Preference.B: (b, a)}
    chosen, rejected = sides.get(row["label"], (None, None))
    shared = {k: row[k] for k in ("prompt", "label", "comparison_id", "split", "file", "row")}
    id_ = pair_id(row["prompt"], chosen, rejected) if chosen and rejected else None
    return {**shared, "pair_id": id_, "chosen": chosen, "rejected": rejected}


def screen_pairs(
    rows: Sequence[Row], renderer: "ChatRenderer", limit: int | None, rejects: Rejects
) -> list[tuple[str, PairExample]]:
    """(split, pair in tokens) of every row that can be used, ordered by pair id.

    Reasons for the others: tie, unlabelled, duplicate_pair, identical_completions,
    empty_completion, empty_prompt, chat_template_refused, too_long.
    """
    pairs: dict[str, tuple[str, PairExample]] = {}
    for row in sorted(rows, key=lambda r: (r["pair_id"] or "", r["comparison_id"])):
        if row["pair_id"] in pairs:
            rejects.add(row, "duplicate_pair", f"pair {row['pair_id']} is there already")
        for pair in _usable(row, renderer, limit, rejects) if row["pair_id"] not in pairs else ():
            pairs[pair.key] = (row["split"], pair)
    return list(pairs.values())


def _usable(
    row: Row, renderer: "ChatRenderer", limit: int | None, rejects: Rejects
) -> Iterator[PairExample]:
    if row["chosen"] is None:
        is_tie = row["label"] == Preference.TIE
        rejects.add(row, "tie" if is_tie else "unlabelled", "nobody preferred a side")
        return
    sides = []
    for name in ("chosen", "rejected"):
        rendered = render_or_reject(renderer, row, row["prompt"], row[name], limit, rejects)
        if rendered is None:
            return
        sides.append(rendered)
    chosen, rejected = sides
    if chosen.completion_ids == rejected.completion_ids:
        rejects.add(row, "identical_completions", "chosen and rejected are the same tokens")
        return
    yield PairExample(
        row["pair_id"], chosen.prompt_ids, chosen.completion_ids, rejected.completion_ids
    )
