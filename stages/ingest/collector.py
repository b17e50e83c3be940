"""Collects rows of all tables as compact Arrow pieces, with ids, splits and duplicates seen to."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.ids import (
    canonical_messages,
    comparison_id,
    demonstration_id,
    prompt_id,
    seed_from,
)
from schemas.labels import Preference
from schemas.parquet import rows_to_arrow, write_table
from schemas.tables import COMPARISONS, DEMONSTRATIONS, PROMPTS, REJECTS, Table
from stages.ingest.examples import ComparisonExample, DemonstrationExample, Example, RowError
from stages.ingest.sources import ReadRow
from stages.ingest.splits import hash_split

if TYPE_CHECKING:
    from stages.ingest import IngestConfig
    from stages.ingest.datasets import Dataset

_PIECE_ROWS = 2048
Row = dict[str, Any]


class Pieces:
    """A growing table: a short list of rows, and Arrow pieces of what came before."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._rows: list[Row] = []
        self._pieces: list[pa.Table] = []

    def append(self, row: Row) -> None:
        """Add one row."""
        self._rows.append(row)
        if len(self._rows) >= _PIECE_ROWS:
            self._flush()

    def arrow(self) -> pa.Table:
        """All rows so far."""
        self._flush()
        return pa.concat_tables([self.table.schema.empty_table(), *self._pieces])

    def _flush(self) -> None:
        self._pieces.append(rows_to_arrow(self.table, self._rows))
        self._rows = []


class Collector:
    """Takes rows one by one, in reading order; the tables keep that order."""

    def __init__(self, config: "IngestConfig") -> None:
        self.rows_in = 0
        self._config = config
        self._prompts = Pieces(PROMPTS)
        self._demonstrations = Pieces(DEMONSTRATIONS)
        self._derived = Pieces(DEMONSTRATIONS)  # chosen answers, which may still have to go
        self._comparisons = Pieces(COMPARISONS)
        self._rejects = Pieces(REJECTS)
        self._reasons: Counter[str] = Counter()
        # Seen so far: the label as that comparison_id shows it, and its place; ids; splits.
        self._labels: dict[str, tuple[Preference, str]] = {}
        self._demonstrated: set[str] = set()
        self._chosen: set[str] = set()
        self._listed: set[str] = set()
        self._splits: dict[str, str] = {}
        self._moved: set[str] = set()

    def add(self, dataset: "Dataset", row: ReadRow) -> RowError | None:
        """Take one row; returns the reason where it was rejected."""
        self.rows_in += 1
        try:
            if isinstance(row.outcome, RowError):
                raise row.outcome
            self._keep(dataset, row, row.outcome)
        except UnicodeEncodeError:
            error = RowError("lone_surrogate", "the text holds half a character")
        except RowError as raised:
            error = raised
        else:
            return None
        self._reject(getattr(dataset, "content", COMPARISONS.name), row, error)
        return error

    def tables(self) -> dict[str, pa.Table]:
        """All tables by name, with prompts that sources put in both splits held out whole."""
        derived = self._derived.arrow()
        stale = pc.or_(
            pc.is_in(derived["prompt_id"], _strings(self._moved)),
            pc.is_in(derived["demonstration_id"], _strings(self._demonstrated)),
        )
        demonstrations = [self._demonstrations.arrow(), derived.filter(pc.invert(stale))]
        return {
            PROMPTS.name: self._settled(self._prompts.arrow()),
            DEMONSTRATIONS.name: self._settled(pa.concat_tables(demonstrations)),
            COMPARISONS.name: self._settled(self._comparisons.arrow()),
            REJECTS.name: self._rejects.arrow(),
        }

    def write_rejects(self, output: Path) -> None:
        """Write what was rejected so far."""
        write_table(output / REJECTS.file_name, REJECTS, self._rejects.arrow())

    def write(self, output: Path) -> dict[str, int]:
        """Write the four tables; returns the counts, in which every row read is accounted for."""
        tables = self.tables()
        counts = self._counts(tables)
        for table in (PROMPTS, DEMONSTRATIONS, COMPARISONS, REJECTS):
            write_table(output / table.file_name, table, tables[table.name], counts)
        return counts

    def _keep(self, dataset: "Dataset", row: ReadRow, example: Example) -> None:
        prompt = prompt_id(example.prompt)
        place: Row = {
            "prompt_id": prompt,
            "prompt": example.prompt,
            "split": row.source_split or hash_split(prompt, self._config.test_fraction),
            "source": dataset.name or dataset.kind,
            "file": row.origin.file,
            "row": row.origin.row,
        }
        if self._splits.get(prompt, place["split"]) != place["split"]:
            self._moved.add(prompt)  # whatever becomes of this row
        if isinstance(example, ComparisonExample):
            self._keep_comparison(example, place)
            if getattr(dataset, "demonstrations", "none") == "chosen":
                self._derive(example, place)
        elif isinstance(example, DemonstrationExample):
            self._keep_demonstration(example, place)
        elif prompt in self._listed:
            raise RowError("duplicate", "the same prompt is listed before")
        else:
            self._listed.add(prompt)
        self._keep_prompt(example.category, place)

    def _keep_prompt(self, category: str | None, place: Row) -> None:
        if place["prompt_id"] not in self._splits:
            self._splits[place["prompt_id"]] = place["split"]
            self._prompts.append({**place, "category": category})

    def _keep_demonstration(self, example: DemonstrationExample, place: Row) -> None:
        identity = demonstration_id(example.prompt, example.completion)
        if identity in self._demonstrated:
            raise RowError("duplicate", "the same prompt and completion stand before")
        self._demonstrated.add(identity)
        row = {**place, "demonstration_id": identity, "completion": example.completion}
        self._demonstrations.append(row)

    def _derive(self, example: ComparisonExample, place: Row) -> None:
        """The preferred answer of a train comparison, once, as a demonstration."""
        if example.label is Preference.TIE or place["split"] != "train":
            return
        chosen = example.completion_a if example.label is Preference.A else example.completion_b
        identity = demonstration_id(example.prompt, chosen)
        if identity not in self._chosen:
            self._chosen.add(identity)
            self._derived.append({**place, "demonstration_id": identity, "completion": chosen})

    def _keep_comparison(self, example: ComparisonExample, place: Row) -> None:
        example = self._deal_sides(example, place["prompt_id"])
        identity = comparison_id(example.prompt, example.completion_a, example.completion_b)
        self._refuse_duplicate(example, identity)
        self._labels[identity] = (example.label, f"{place['file']} row {place['row']}")
        self._comparisons.append(
            {
                **place,
                "comparison_id": identity,
                "completion_a": example.completion_a,
                "completion_b": example.completion_b,
                "label": example.label.value,
                "strength": example.strength,
                "annotations": [
                    {
                        "annotator": a.annotator,
                        "label": a.label.value,
                        "strength": a.strength,
                        "reason": a.reason,
                    }
                    for a in example.annotations
                ],
                "label_source": example.label_source,
                "completion_a_id": None,
                "completion_b_id": None,
                "category": example.category,
            }
        )

    def _deal_sides(self, example: ComparisonExample, prompt: str) -> ComparisonExample:
        """Where the better answer always comes first, let seed and content choose its side."""
        if not example.chosen_first or self._config.sides == "as_given":
            return example
        texts = map(canonical_messages, (example.completion_a, example.completion_b))
        if seed_from(self._config.seed, "sides", prompt, *texts) % 2:
            return swap_sides(example)
        return example

    def _refuse_duplicate(self, example: ComparisonExample, identity: str) -> None:
        mirrored = comparison_id(example.prompt, example.completion_b, example.completion_a)
        for seen, label in ((identity, example.label), (mirrored, example.label.swap())):
            if seen in self._labels:
                before, place = self._labels[seen]
                reason = "duplicate" if before is label else "contradictory_duplicate"
                raise RowError(reason, f"the same texts are compared in {place}")

    def _reject(self, table: str, row: ReadRow, error: RowError) -> None:
        self._reasons[error.reason] += 1
        self._rejects.append(
            {
                "table": table,
                "reason": error.reason,
                "detail": _encodable(error.detail),
                "file": row.origin.file,
                "row": row.origin.row,
                "raw": _encodable(row.origin.raw),
            }
        )

    def _settled(self, data: pa.Table) -> pa.Table:
        moved = pc.is_in(data["prompt_id"], _strings(self._moved))
        split = pc.if_else(moved, "test", data["split"])
        return data.set_column(data.schema.get_field_index("split"), data.field("split"), split)

    def _counts(self, tables: Mapping[str, pa.Table]) -> dict[str, int]:
        rejected, comparisons = tables[REJECTS.name].num_rows, tables[COMPARISONS.name]
        kept = comparisons.num_rows + len(self._demonstrated) + len(self._listed)
        assert self.rows_in == kept + rejected, "rows were lost between reading and writing"
        counts = {
            "rows_in": self.rows_in,
            "rows_kept": kept,
            "rejects": rejected,
            **{f"rejects/{reason}": n for reason, n in sorted(self._reasons.items())},
            "ties": pc.sum(pc.equal(comparisons["label"], "Tie")).as_py() or 0,
            "prompts_moved_to_test": len(self._moved),
        }
        for name in (PROMPTS.name, DEMONSTRATIONS.name, COMPARISONS.name):
            counts[name] = tables[name].num_rows
            for split in ("train", "test"):
                of_split = pc.equal(tables[name]["split"], split)
                counts[f"{name}/{split}"] = pc.sum(of_split).as_py() or 0
        return counts


def swap_sides(example: ComparisonExample) -> ComparisonExample:
    """The same example with A and B exchanged, and all that was said about them."""
    return replace(
        example,
        completion_a=example.completion_b,
        completion_b=example.completion_a,
        label=example.label.swap(),
        annotations=tuple(replace(a, label=a.label.swap()) for a in example.annotations),
    )


def _strings(values: set[str]) -> pa.Array:
    return pa.array(sorted(values), pa.string())


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
