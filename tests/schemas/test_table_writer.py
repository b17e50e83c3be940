"""A table written in pieces: the same bytes, whole or not at all, read alike by everybody."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import DataError
from schemas.parquet import TableWriter, read_table, write_table
from schemas.tables import PROMPTS, SCHEMA_VERSION
from schemas.validation import rows_to_arrow


def prompts(count: int) -> pa.Table:
    return rows_to_arrow(
        PROMPTS,
        [
            {
                "prompt_id": f"{i:032x}",
                "prompt": [{"role": "user", "content": f"question {i} " * (i % 5)}],
                "split": "train",
                "category": None if i % 3 else "x",
                "source": "s",
                "file": "f",
                "row": i,
            }
            for i in range(count)
        ],
    )


def test_the_bytes_do_not_show_the_pieces(tmp_path: Path) -> None:
    data, draw = prompts(20_000), random.Random(0)
    write_table(tmp_path / "whole.parquet", PROMPTS, data, {"rows": 20_000})
    with TableWriter(tmp_path / "pieces.parquet", PROMPTS) as writer:
        start = 0
        while start < len(data):
            size = draw.choice([0, 1, 500, 9000])
            writer.append(data.slice(start, size))
            start += size
        writer.counts = {"rows": 20_000}
    whole, pieces = ((tmp_path / f"{n}.parquet").read_bytes() for n in ("whole", "pieces"))
    assert whole == pieces
    file = pq.ParquetFile(tmp_path / "pieces.parquet")
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert sizes == [8192, 8192, 20_000 - 2 * 8192]
    assert read_table(tmp_path / "pieces.parquet", PROMPTS).equals(data)


def test_the_metadata_says_what_it_is(tmp_path: Path) -> None:
    write_table(tmp_path / "x.parquet", PROMPTS, prompts(3), {"rows_in": 5})
    metadata = pq.ParquetFile(tmp_path / "x.parquet").metadata.metadata
    assert metadata[b"prefline.table"] == b"prompts"
    assert metadata[b"prefline.schema_version"] == str(SCHEMA_VERSION).encode()
    assert json.loads(metadata[b"prefline.counts"]) == {"rows_in": 5}


def test_an_empty_table_is_a_table(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "x.parquet", PROMPTS):
        pass
    assert read_table(tmp_path / "x.parquet", PROMPTS).num_rows == 0


def test_a_bad_row_leaves_no_file(tmp_path: Path) -> None:
    bad = prompts(3).set_column(2, "split", pa.array(["train", "development", "test"]))
    with (
        pytest.raises(DataError, match=r"split is 'development'"),
        TableWriter(tmp_path / "x.parquet", PROMPTS) as writer,
    ):
        writer.append(bad)
    assert list(tmp_path.iterdir()) == []
