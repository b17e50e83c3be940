"""Ingest's labelled comparisons, by split, with the rows they came from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.files.labelled import labeled_comparison
from schemas.labels import LabeledComparison

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Labelled:
    """Labelled comparisons of one split, sorted by id, and the rows they came from."""

    comparisons: Sequence[LabeledComparison]
    rows: Sequence[Row]

    def first(self, most: int | None) -> "Labelled":
        """No more than so many of them."""
        return Labelled(self.comparisons[:most], self.rows[:most])


def labelled(rows: Sequence[Row], split: str) -> Labelled:
    """The comparisons of a split that somebody has labelled.

    Ids are content hashes, so their order has nothing to do with the order of the source: the
    first n are a fair sample.
    """
    kept = [r for r in rows if r["split"] == split and r["label"] is not None]
    kept.sort(key=lambda r: str(r["comparison_id"]))
    return Labelled([labeled_comparison(r) for r in kept], kept)


def reject(row: Row, reason: str, detail: str) -> dict[str, Any]:
    """A row of REJECTS for a comparison that cannot be trained on."""
    return {
        "table": "comparisons",
        "reason": reason,
        "detail": detail,
        "file": row["file"],
        "row": row["row"],
        "raw": json.dumps({k: row[k] for k in ("comparison_id", "prompt_id", "label")}),
    }
