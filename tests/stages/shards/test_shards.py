"""Work files and results: any cut of the rows, any order of the work, the same tables."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.parquet import read_rows, write_table
from schemas.tables import PROMPTS, REJECTS
from stages.shards.results import Results
from stages.shards.work_file import WorkFile, in_shards, sorted_rows


def prompt(number: int, name: str | None = None) -> dict[str, Any]:
    return {
        "prompt_id": name or f"{number * 7919 % 1000:03d}",
        "prompt": [{"role": "user", "content": f"question {number}"}],
        "split": "train",
        "category": None,
        "source": "test",
        "file": "raw.jsonl",
        "row": number,
    }


def reject(number: int) -> dict[str, Any]:
    return {
        "table": "t",
        "reason": "because",
        "detail": "",
        "file": "f",
        "row": number,
        "raw": str(number),
    }


@settings(deadline=None)
@given(
    runs=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    per_shard=st.integers(1, 4),
    cut=st.integers(1, 7),
)
def test_no_group_is_torn_and_no_row_lost(runs: list[int], per_shard: int, cut: int) -> None:
    names = [f"g{i}" for i, size in enumerate(runs) for _ in range(size)]
    whole = pa.table({"group": names, "row": range(len(names))})
    batches = (whole.slice(start, cut) for start in range(0, len(names), cut))
    shards = [shard.to_pylist() for shard in in_shards(batches, "group", per_shard)]
    assert [row for shard in shards for row in shard] == whole.to_pylist()
    held = [list(dict.fromkeys(row["group"] for row in shard)) for shard in shards]
    assert [len(groups) for groups in held[:-1]] == [per_shard] * (len(held) - 1)
    assert len({g for groups in held for g in groups}) == sum(map(len, held)) == len(runs)


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_rows_are_sorted_whatever_fits_into_memory(
    tmp_path: Path, at_once: int, in_order: bool
) -> None:
    rows = [prompt(i) for i in range(40)]
    if in_order:
        rows.sort(key=lambda row: str(row["prompt_id"]))
    write_table(tmp_path / "prompts.parquet", PROMPTS, rows)
    wanted = pa.chunked_array([[row["prompt_id"] for row in rows if row["row"] % 3]])
    found = sorted_rows(tmp_path / "prompts.parquet", PROMPTS, "prompt_id", wanted, at_once)
    listed = [row for part in found for row in part.to_pylist()]
    expected = sorted((r for r in rows if r["row"] % 3), key=lambda r: str(r["prompt_id"]))
    assert [row["prompt_id"] for row in listed] == [row["prompt_id"] for row in expected]
    assert [row["row"] for row in listed] == [row["row"] for row in expected]


def three_shards(folder: Path) -> WorkFile:
    work = WorkFile(folder / "work.parquet")
    rows = [prompt(i, f"{i:03d}") for i in range(7)]
    tables = [pa.Table.from_pylist(rows[i : i + 3], schema=PROMPTS.schema) for i in (0, 3, 6)]
    work.write(PROMPTS, tables)
    return work


def do(results: Results, work: WorkFile, shard: int) -> None:
    rows = work.read(shard).to_pylist()
    dropped = [reject(row["row"]) for row in rows if row["row"] % 2]
    counts = {"prompts": len(rows), "rejects": len(dropped)}
    warnings = ["of every shard", f"of shard {shard}"]
    results.write(shard, {PROMPTS.name: rows, REJECTS.name: dropped}, counts, warnings)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_the_order_of_the_work_does_not_matter(tmp_path: Path, order: tuple[int, ...]) -> None:
    work = three_shards(tmp_path)
    assert (len(work), work.rows()) == (3, 7)
    results = Results(tmp_path, (PROMPTS, REJECTS))
    for done, shard in enumerate(order):
        assert results.done() == set(order[:done])
        do(results, work, shard)
    assert results.warnings() == ["of every shard", *(f"of shard {i}" for i in range(3))]
    assert results.join(work) == {"prompts": 7, "rejects": 3}
    assert [r["row"] for r in read_rows(tmp_path / "prompts.parquet", PROMPTS)] == list(range(7))
    assert [r["row"] for r in read_rows(tmp_path / "rejects.parquet", REJECTS)] == [1, 3, 5]
    assert Results(tmp_path, (PROMPTS, REJECTS)).join(work) == {"prompts": 7, "rejects": 3}


def test_a_shard_that_is_not_as_it_was_written_is_done_again(tmp_path: Path) -> None:
    work = three_shards(tmp_path)
    results = Results(tmp_path, (PROMPTS, REJECTS))
    for shard in range(3):
        do(results, work, shard)
    (tmp_path / "shards" / "00000001" / "shard.json").write_text("{}")
    table = tmp_path / "shards" / "00000002" / "prompts.parquet"
    table.write_bytes(table.read_bytes()[:-1] + b"?")
    assert Results(tmp_path, (PROMPTS, REJECTS)).done() == {0}


def test_a_work_file_that_is_not_as_it_was_written_is_no_work_file(tmp_path: Path) -> None:
    work = three_shards(tmp_path)
    assert work.is_sound
    work.path.write_bytes(work.path.read_bytes().replace(b"PAR1", b"PAR2", 1))
    assert not work.is_sound


def test_a_shard_that_two_workers_did_counts_once(tmp_path: Path) -> None:
    work = three_shards(tmp_path)
    results = Results(tmp_path, (PROMPTS, REJECTS))
    for shard in (0, 1, 1, 2):
        do(results, work, shard)
    assert results.join(work)["prompts"] == 7


def test_half_a_shard_is_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = three_shards(tmp_path)
    results = Results(tmp_path, (PROMPTS, REJECTS))
    do(results, work, 0)

    def dying(old: Path, new: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", dying)
        with pytest.raises(KeyboardInterrupt):
            do(results, work, 1)
    assert Results(tmp_path, (PROMPTS, REJECTS)).done() == {0}


def test_no_work_makes_empty_tables(tmp_path: Path) -> None:
    work = WorkFile(tmp_path / "work.parquet")

    def nothing() -> Iterator[pa.Table]:
        yield from ()

    work.write(PROMPTS, nothing())
    results = Results(tmp_path, (PROMPTS, REJECTS))
    assert results.join(work) == {}
    assert read_rows(tmp_path / "prompts.parquet", PROMPTS) == []


def test_where_the_shards_lie_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is as long as there are shards: read for each, it would cost their square."""
    rows = pa.Table.from_pylist([prompt(i) for i in range(6)], schema=PROMPTS.schema)
    path = tmp_path / "work.parquet"
    work = WorkFile(path)
    work.write(PROMPTS, (rows.slice(i, 1) for i in range(5)))
    assert len(work) == 5
    work.write(PROMPTS, (rows.slice(i, 2) for i in range(0, 6, 2)))
    assert (len(work), work.rows()) == (3, 6)
    again = WorkFile(path)
    assert again.read(1)["row"].to_pylist() == [2, 3]
    monkeypatch.setattr(pq, "read_metadata", lambda path: pytest.fail("read again"))
    assert again.read(2)["row"].to_pylist() == [4, 5]
    assert len(again) == 3
