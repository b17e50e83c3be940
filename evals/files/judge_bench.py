"""JudgeBench's published judgements as verdicts of one judge, in both orders, with its replies."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.files.external_files import choose, read_columns
from evals.judges.kinds.rule import certain
from schemas.ids import content_id
from schemas.labels import Order, Preference

Row = dict[str, Any]

COLUMNS = ("judge", "pair_id", "shown_A_is", "decision", "judgment_text")
_DECISIONS = {"A>B": Preference.A, "B>A": Preference.B, "A=B": Preference.TIE}


def read_judgements(path: Path, judge: str | None) -> list[Row]:
    """VERDICTS rows of one judge; A is the pair's own A, wherever it was shown.

    A decision that is none of A>B, B>A and A=B is unscored, as the judge left no verdict.

    Raises:
        MissingInputError: no such file.
        DataError: not JudgeBench's judgements.
        ConfigError: no such judge, or several and none named.
    """
    table = read_columns(path, COLUMNS)
    name = choose(path, "judge", table["judge"].to_pylist(), judge)
    return [verdict_row(row) for row in table.to_pylist() if row["judge"] == name]


def verdict_row(row: Mapping[str, Any]) -> Row:
    """A judgement, with COLUMNS, as a row of VERDICTS."""
    order = Order.AB if row["shown_A_is"] == "A" else Order.BA
    shown = _DECISIONS.get(row["decision"])
    label = shown.swap() if shown and order is Order.BA else shown
    said = certain(label) if label else None
    return {
        "comparison_id": row["pair_id"],
        "prompt_id": row["pair_id"],
        "judge": row["judge"],
        "judge_fingerprint": content_id("judge", "published", row["judge"]),
        "order": order.value,
        "p_a": said and said.p_a,
        "p_b": said and said.p_b,
        "p_tie": said and said.p_tie,
        "label_mass": None,
        "verdict": label and label.value,
        "unscored_reason": None if label else "no_verdict",
        "unscored_detail": None,
        "raw": row["judgment_text"] or "",
    }
