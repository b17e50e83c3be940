"""Which rows can be trained on; the others are written down with their reason."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.models.checkpoints import positions_of
from schemas.labels import Messages
from schemas.parquet import write_table
from schemas.tables import REJECTS


@dataclass
class Rejects:
    """Rows that a stage will not train on, on their way to rejects.parquet."""

    table: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    cuts: Counter[str] = field(default_factory=Counter)
    """How many rows are trained on shortened, by what was cut of them."""

    def add(self, row: Mapping[str, Any], reason: str, detail: str) -> None:
        """Set a row aside; `row` has the lineage columns file and row."""
        self.rows.append(
            {
                "table": self.table,
                "reason": reason,
                "detail": detail,
                "file": row["file"],
                "row": row["row"],
                "raw": json.dumps(row, ensure_ascii=False, sort_keys=True, default=str),
            }
        )

    def counts(self) -> dict[str, int]:
        """`rejects`, and `rejects/<reason>` for each reason."""
        by_reason = Counter(row["reason"] for row in self.rows)
        return {
            "rejects": len(self.rows),
            **{f"rejects/{reason}": n for reason, n in sorted(by_reason.items())},
            **({"cut": self.cuts.total()} if self.cuts else {}),
            **{f"cut/{what}": n for what, n in sorted(self.cuts.items())},
        }

    def describe(self) -> str:
        """The reasons in words, as in `2 too_long, 1 tie`."""
        by_reason = Counter(row["reason"] for row in self.rows)
        return ", ".join(f"{n} {reason}" for reason, n in by_reason.most_common())

    def write(self, folder: Path) -> None:
        """Write rejects.parquet, sorted so that the same rows give the same file."""
        ordered = sorted(self.rows, key=lambda r: (r["file"], r["row"], r["reason"], r["raw"]))
        write_table(folder / REJECTS.file_name, REJECTS, ordered, self.counts())


def has_text(messages: Messages) -> bool:
    """Whether any turn says something, or calls a tool."""
    return any(m["content"].strip() or m.get("tool_calls") for m in messages)


def length_limit(max_length: int | None, model_config: Any) -> int | None:
    """Tokens an item may have: the recipe's limit and the model's own, whichever is lower."""
    own = positions_of(model_config)
    return min((n for n in (max_length, own) if n), default=None)
