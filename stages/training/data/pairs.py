"""Preference pairs to train on: from the label stage, or straight from people's comparisons."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.models.rendering import ChatRenderer
from schemas.errors import ConfigError
from schemas.ids import file_sha256, own_prompt_id, pair_id
from schemas.labels import Preference
from schemas.parquet import iter_batches, rows_of
from schemas.stage import StageContext
from schemas.tables import COMPARISONS, DECIDING, PREFERENCE_PAIRS, Table
from stages.training.config import Truncation
from stages.training.data.config import WhichPairs
from stages.training.data.disk_cache import DiskCache
from stages.training.data.pair_weights import JUDGE, SAMPLED, SOURCE, Floats, source_code
from stages.training.data.rows.rejects import Rejects
from stages.training.data.rows.render_rows import (
    DRAWN,
    DRAWN_OTHERWISE,
    NEUTRALISED,
    Candidate,
    token_items,
)
from stages.training.data.rows.token_store import Rows, StoredItem, TokenItem, TokenTable, TokenView
from stages.training.data.rows.tokens import cached_tokens, has_split
from stages.training.objectives.preference import PairExample

Row = Mapping[str, Any]

_BATCH_ROWS = 1024
_NUMBERS = ("margin", "strength", DRAWN, DRAWN_OTHERWISE, NEUTRALISED, SOURCE, JUDGE, SAMPLED)
_HUMAN = (
    *("prompt", "label", "strength", "comparison_id", "split", "source", "label_source"),
    *("file", "row", "tools", "chat_template_kwargs"),
)


@dataclass(frozen=True)
class PairSource:
    """A table with pairs in it, of which the rows of some splits are read, never those of test."""

    path: Path
    table: Table
    splits: Sequence[str] = DECIDING

    def batches(self) -> Iterator[list[Row]]:
        """Rows with `pair_id`, `chosen` and `rejected`, which are None where nobody has chosen."""
        as_pair = _as_pair if self.table is COMPARISONS else _as_sampled
        for batch in iter_batches(self.path, self.table, _BATCH_ROWS, self.splits):
            yield [as_pair(row) for row in rows_of(batch)]

    @property
    def content(self) -> str:
        """What the rows are made of."""
        return f"{self.table.name}:{','.join(self.splits)}:{file_sha256(self.path)}"


def pair_sources(context: StageContext, which: WhichPairs = "auto") -> list[PairSource]:
    """Where the pairs are: label's tables (of all rounds mixed in), people's comparisons, or both.

    Where label has written no held-out pairs, people's comparisons of the dev split serve.

    Raises:
        ConfigError: sampled pairs are asked for, and the recipe has no label.
    """
    if which in ("sampled", "both") and not context.has("label"):
        raise ConfigError(
            f'train.pairs = "{which}" wants pairs of [label], and the recipe has none; add '
            "[sample] and [label], or leave train.pairs out"
        )
    if which == "given" or not context.has("label"):
        return [_people(context)]
    names = ["label", *(name for name in context.inputs if name.startswith("label@"))]
    paths = [context.input(name, PREFERENCE_PAIRS.file_name) for name in names]
    sources = [PairSource(path, PREFERENCE_PAIRS) for path in paths]
    if which == "both":
        return [*sources, _people(context)]
    held_out = any(has_split(path, PREFERENCE_PAIRS, "dev") for path in paths)
    if not held_out and context.has("ingest"):
        sources.append(_people(context, ("dev",)))
    return sources


def open_pairs(
    sources: Sequence[PairSource],
    renderer: ChatRenderer,
    limit: int | None,
    cache: DiskCache,
    rejects: Rejects,
    weighed_by: str | None = None,
    truncation: Truncation | None = None,
    *,
    reasoning: bool = True,
) -> TokenTable:
    """All pairs that can be used, in tokens; the numbers `margin` and `strength` beside them.

    Where `weighed_by` names one of the two, a training pair must have it, above zero. Reasons for
    the rows in `rejects`: tie, unlabelled, duplicate_pair, no_<number>, zero_<number>, and those
    of `token_items`.
    """

    def batches(aside: Rejects) -> Iterator[list[TokenItem]]:
        seen: set[str] = set()
        for source in sources:
            for rows in source.batches():
                candidates = [c for row in rows for c in _candidates(row, weighed_by, seen, aside)]
                made = token_items(
                    renderer, candidates, limit, aside, truncation, reasoning=reasoning
                )
                yield list(made)

    how = (truncation or Truncation()).model_dump_json()
    made_of = [
        renderer.fingerprint,
        str(limit),
        how,
        str(weighed_by),
        *([] if reasoning else ["answers alone"]),
        *(s.content for s in sources),
    ]
    return cached_tokens(cache, made_of, batches, rejects, parts=3, numbers=_NUMBERS)


def view_pairs(
    table: TokenTable,
    rows: Rows,
    weights: Floats | None = None,
    tail_weight: float = 1.0,
) -> TokenView[PairExample]:
    """Rows of the table as pairs; `weights` of all rows of the table, if they are weighed."""

    def make(stored: StoredItem) -> PairExample:
        prompt, chosen, rejected = stored.parts
        weight = None if weights is None else float(weights[stored.row])
        return PairExample(
            stored.key, prompt, chosen, rejected, weight=weight, tail_weight=tail_weight
        )

    return TokenView(table, rows, make)


def _people(context: StageContext, splits: Sequence[str] = DECIDING) -> PairSource:
    return PairSource(context.input("ingest", COMPARISONS.file_name), COMPARISONS, splits)


def _as_pair(row: Row) -> Row:
    a, b = row["completion_a"], row["completion_b"]
    sides = {Preference.A: (a, b), Preference.B: (b, a)}
    chosen, rejected = sides.get(row["label"], (None, None))
    own = own_prompt_id(row)
    id_ = None if chosen is None else pair_id(row["prompt"], chosen, rejected, asked=own)
    shared = {name: row[name] for name in _HUMAN}
    return {**shared, "pair_id": id_, "chosen": chosen, "rejected": rejected}


def _as_sampled(row: Row) -> Row:
    return {**row, SAMPLED: 1.0}


def _candidates(
    row: Row, weighed_by: str | None, seen: set[str], rejects: Rejects
) -> Iterator[Candidate]:
    if row["chosen"] is None:
        is_tie = row["label"] == Preference.TIE
        rejects.add(row, "tie" if is_tie else "unlabelled", "nobody preferred a side")
    elif row["pair_id"] in seen:
        rejects.add(row, "duplicate_pair", f"pair {row['pair_id']} is there already")
    elif weighed_by and row["split"] == "train" and not row.get(weighed_by):
        reason = "no" if row.get(weighed_by) is None else "zero"
        rejects.add(row, f"{reason}_{weighed_by}", "the pair would have no weight")
    else:
        seen.add(row["pair_id"])
        numbers = {name: row.get(name) for name in ("margin", "strength", SAMPLED)}
        numbers[SOURCE] = source_code(row["source"])
        numbers[JUDGE] = source_code(row["label_source"] or "")
        drawn = [row.get(f"{side}_token_ids") or [] for side in ("chosen", "rejected")]
        yield Candidate(
            row["pair_id"],
            row,
            (row["chosen"], row["rejected"]),
            numbers,
            drawn if all(drawn) else None,
        )
