"""Tables of an earlier schema version are read as they are: what they lack is null."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.parquet import read_rows
from schemas.tables import COMPARISONS

SAID: dict[str, Any] = {"annotator": "x", "label": "A", "strength": 1.0, "reason": "r"}


def test_annotations_without_feedback_have_none(tmp_path: Path) -> None:
    """Version 1 had no feedback on either side."""
    before = pa.list_(
        pa.struct([(n, pa.float64() if n == "strength" else pa.string()) for n in SAID])
    )
    at = COMPARISONS.schema.get_field_index("annotations")
    schema = COMPARISONS.schema.set(at, pa.field("annotations", before, nullable=False))
    turns = [{"role": "user", "content": "Hi"}]
    row = {
        **dict.fromkeys(schema.names),
        **dict.fromkeys(("comparison_id", "prompt_id", "source", "file"), "x"),
        **dict.fromkeys(("prompt", "completion_a", "completion_b"), turns),
        **{"annotations": [SAID], "split": "train", "row": 0},
    }
    pq.write_table(pa.Table.from_pylist([row], schema=schema), tmp_path / "c.parquet")
    (found,) = read_rows(tmp_path / "c.parquet", COMPARISONS)
    assert found["annotations"] == [{**SAID, "feedback_a": None, "feedback_b": None}]
