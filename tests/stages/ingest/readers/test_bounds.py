"""Lines, rows, row groups, dictionaries and packing are bounded by bytes: a reject or a refusal."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from evals.files.opening import unpacking
from evals.files.opening.formats import Format
from schemas import parquet
from schemas.errors import DataError
from schemas.parquet import TableWriter, row_bytes
from schemas.tables import REJECTS
from stages.ingest.frames import blocks
from stages.ingest.readers import arrow_bounds, tables
from stages.ingest.readers.arrow_bounds import rows_at_once
from stages.ingest.readers.raw_rows import json_value, read_jsonl
from stages.ingest.tables import table_writers
from tests.fixtures.ingest import Ingest, pair


@pytest.mark.parametrize("block_bytes", [64, 700, 1000, 8 << 20])
def test_a_line_that_is_too_long_costs_itself_alone(
    ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(blocks, "MAX_ROW_BYTES", 1000)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", min(block_bytes, 1000))
    long = json.dumps(pair(1)) + " " * 5000
    lines = [json.dumps(pair(0)), long, json.dumps(pair(2)), long]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    result = ingest({"kind": "jsonl", "path": str(tmp_path / "x.jsonl")})
    assert [r["row"] for r in result.table("comparisons")] == [0, 2]
    assert [(r["row"], r["reason"]) for r in result.table("rejects")] == [
        (1, "line_too_long"),
        (3, "line_too_long"),
    ]
    assert all(len(r["raw"]) < 1100 for r in result.table("rejects"))


def test_an_element_that_is_too_long_refuses_the_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "MAX_ROW_BYTES", 1000)
    monkeypatch.setattr(blocks, "_LOOK_AHEAD", 10)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 100)
    (tmp_path / "x.json").write_text(json.dumps([pair(0), {"prompt": "q" * 5000}, pair(1)]))
    with pytest.raises(DataError, match=r"x\.json: row 1 of the array has more than"):
        list(read_jsonl(tmp_path / "x.json", "x.json"))


def test_a_small_file_does_not_become_a_huge_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "_UNPACKED_FREELY", 1 << 16)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1 << 14)
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n" * (1 << 20)))
    with pytest.raises(DataError, match="unpacks to more than 200 times its size"):
        list(read_jsonl(path, "x"))


def test_blocks_have_few_lines_however_short_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_MOST_LINES", 10)
    (tmp_path / "x.jsonl").write_bytes(b"1\n" * 25)
    found = list(blocks.line_blocks(tmp_path / "x.jsonl", "x"))
    assert [(b.first_row, b.data.count(b"\n")) for b in found] == [(0, 10), (10, 10), (20, 5)]


def test_a_dictionary_is_written_out_for_few_rows_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 rows that refer to one text of 100 kB: a file of some kB."""
    path = tmp_path / "x.parquet"
    table = pa.table({"chosen": ["c" * 100_000] * 1000, "rejected": [str(i) for i in range(1000)]})
    pq.write_table(table, path)
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(arrow_bounds, "_AT_ONCE", 1_000_000)
    assert rows_at_once(path, "x", pq.read_metadata(path), 4096) <= 10
    monkeypatch.setattr(tables, "_PIECE_BYTES", 1_000_000)
    pieces = list(tables.read_tables(path, "x", "parquet", lambda file, names: None))
    assert sum(piece.table.num_rows for piece in pieces) == 1000
    assert max(piece.table.nbytes for piece in pieces) < 2_000_000


def test_packing_that_no_text_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow_bounds, "_UNPACKED_FREELY", 1000)
    table = pa.table({"chosen": [f"{i}" + "c" * 50_000 for i in range(20)], "rejected": ["n"] * 20})
    pq.write_table(table, tmp_path / "x.parquet", compression="zstd", use_dictionary=False)
    feather.write_feather(table, tmp_path / "x.arrow", compression="zstd")
    formats: tuple[tuple[str, Format], ...] = (("x.parquet", "parquet"), ("x.arrow", "arrow"))
    for name, format_ in formats:
        with pytest.raises(DataError, match=r"unpacks to .* which texts do not"):
            list(tables.read_tables(tmp_path / name, name, format_, lambda file, names: None))


def test_a_row_that_is_too_large_is_rejected(
    ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MAX_ROW_BYTES", 1000)
    monkeypatch.setattr(tables, "_PIECE_BYTES", 1000)
    rows = [pair(0), pair(1) | {"chosen": "c" * 2000}, pair(2)]
    feather.write_feather(pa.Table.from_pylist(rows), tmp_path / "x.arrow")
    result = ingest({"kind": "arrow", "path": str(tmp_path / "x.arrow")})
    assert [r["row"] for r in result.table("comparisons")] == [0, 2]
    assert [(r["row"], r["reason"]) for r in result.table("rejects")] == [(1, "row_too_long")]


def test_row_groups_are_bounded_by_bytes_and_do_not_show_the_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "GROUP_BYTES", 10_000)
    texts = ["r" * (1 + 37 * i % 4000) for i in range(100)]
    named = {"table": "t", "reason": "x", "detail": "", "file": "f"}
    rows = [named | {"row": i, "raw": text} for i, text in enumerate(texts)]
    data = pa.Table.from_pylist(rows, schema=REJECTS.schema)
    written = []
    for cut in (100, 7, 1):
        path = tmp_path / f"{cut}.parquet"
        with TableWriter(path, REJECTS) as writer:
            for start in range(0, 100, cut):
                writer.append(data.slice(start, cut))
        written.append(path.read_bytes())
        assert pq.read_table(path).equals(data)
        file = pq.ParquetFile(path)
        groups = [file.read_row_group(i) for i in range(file.num_row_groups)]
        assert all(row_bytes(group).sum() <= 10_000 for group in groups)
    assert written[0] == written[1] == written[2]


def test_bytes_of_rows_are_those_of_what_they_say() -> None:
    turns = [[{"role": "user", "content": "four"}], [], None]
    names = pa.array(["aa", "b", "aa"]).dictionary_encode()
    table = pa.table({"turns": turns, "name": names})
    assert row_bytes(table).tolist() == [10, 1, 2]
    assert row_bytes(table.slice(1)).tolist() == [1, 2]


def test_a_key_that_stands_twice_among_very_many_is_found() -> None:
    names = [*range(20_000), 19_999]
    line = ("{" + ",".join(f'"k{n}":1' for n in names) + "}").encode()
    assert "'k19999' stands twice" in str(json_value(line))


PLAIN = [pair(index) for index in range(200)]


def _varint(number: int) -> bytes:
    """As Thrift's compact form writes numbers."""
    value, said = (number << 1) ^ (number >> 63), b""
    while value > 127:
        value, said = value >> 7, said + bytes([value & 127 | 128])
    return said + bytes([value])


def _with_footer(data: bytes, old: int, new: int) -> bytes:
    """A Parquet file whose metadata say another number."""
    length = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - length : -8]
    assert _varint(old) in footer
    footer = footer.replace(_varint(old), _varint(new))
    return data[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def _with_page(data: bytes, field: int, new: int) -> bytes:
    """The same for the header of the first page: its kind, then its two sizes (1 and 2)."""
    at = 5
    for _ in range(field):
        while data[at] > 127:
            at += 1
        at += 2
    end = next(i for i in range(at, len(data)) if data[i] < 128) + 1
    return data[:at] + _varint(new) + data[end:]


def _lies(path: Path) -> dict[str, bytes]:
    """Files that say of their sizes, places and numbers of rows what is not so."""
    pq.write_table(pa.Table.from_pylist(PLAIN), path, compression="zstd", write_statistics=False)
    data, column = path.read_bytes(), pq.read_metadata(path).row_group(0).column(1)
    plain = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
    pq.write_table(pa.Table.from_pylist(PLAIN), path, **plain)
    page = path.read_bytes()
    long = {"prompt": "q", "chosen": "c" * 3_000_000, "rejected": "r"}
    pq.write_table(pa.Table.from_pylist([long]), path, **plain)
    bomb, packed = path.read_bytes(), pq.read_metadata(path).row_group(0).column(1)
    path.unlink()
    return {
        "more rows": _with_footer(data, 200, 2**31 - 1),
        "a trillion rows": _with_footer(data, 200, 10**12),
        "fewer rows": _with_footer(data, 200, 3),
        "rows below none": _with_footer(data, 200, -5),
        "a column beyond the file": _with_footer(data, column.total_compressed_size, 2**40),
        "a column of less than nothing": _with_footer(data, column.total_compressed_size, -100),
        "a place before the file": _with_footer(data, column.data_page_offset, -7),
        "a dictionary beyond": _with_footer(data, column.dictionary_page_offset, 2**33),
        "a page of 2 GB": _with_page(page, 1, 2**31 - 1),
        "a page below none": _with_page(page, 1, -3),
        "a packed page of 2 GB": _with_page(page, 2, 2**31 - 1),
        "a packed page below none": _with_page(page, 2, -9),
        "a bomb that says it is small": _with_footer(bomb, packed.total_uncompressed_size, 1000),
        "no metadata": data[:-8] + bytes(4) + b"PAR1",
        "metadata beyond": data[:-8] + b"\xff" * 4 + b"PAR1",
    }


def test_metadata_that_lie_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow_bounds, "_UNPACKED_FREELY", 1 << 20)
    path = tmp_path / "x.parquet"
    for name, data in _lies(path).items():
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"^x\.parquet: [^\n]*$"):
            pytest.fail(f"{name}: read {len(list(_read(path)))} pieces")


def _read(path: Path) -> Iterator[tables.TablePiece]:
    return tables.read_tables(path, path.name, "parquet", lambda file, names: None)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("packing", ["none", "snappy", "zstd", "gzip", "brotli", "lz4"])
def test_what_writers_of_parquet_leave_is_read(tmp_path: Path, packing: str, version: str) -> None:
    """Pages of both versions, with and without dictionaries, statistics, nulls and lists."""
    rows = [
        {**row, "turns": [{"role": "user", "content": "c" * 300}] * (i % 3), "none": None}
        for i, row in enumerate(PLAIN)
    ]
    table = pa.Table.from_pylist(rows)
    for settings in ({}, {"use_dictionary": False}, {"write_page_checksum": True}):
        pq.write_table(
            *(table, tmp_path / "x.parquet"),
            compression=packing,
            data_page_version=version,
            data_page_size=1000,
            row_group_size=90,
            **settings,
        )
        read = pa.concat_tables(piece.table for piece in _read(tmp_path / "x.parquet"))
        assert read.to_pylist() == table.to_pylist()


def test_large_rows_are_decoded_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"chosen": [f"{i}" * 1000 for i in range(100, 200)]}), path)
    monkeypatch.setattr(arrow_bounds, "_USUALLY_AT_ONCE", 9_000)
    assert rows_at_once(path, "x", pq.read_metadata(path), 4096) <= 3


def test_large_rows_reach_the_writer_few_at_a_time(
    ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a row group of 8,192 is full: such rows come by the thousand and are no fault."""
    monkeypatch.setattr(table_writers, "_HELD_BYTES", 50_000)
    largest, most = 0, 0
    append = TableWriter.append

    def watched(writer: TableWriter, data: pa.Table) -> None:
        nonlocal largest, most
        largest, most = max(largest, data.nbytes), max(most, data.num_rows)
        append(writer, data)

    monkeypatch.setattr(TableWriter, "append", watched)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 10_000)
    rows = [pair(i) | {"chosen": f"{i} " * 1000} for i in range(300)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = ingest({"kind": "jsonl", "path": str(tmp_path / "x.jsonl")})
    assert len(result.table("comparisons")) == 300
    assert 0 < largest < 200_000
    assert most < 100, "prompts, which are short, keep all of the rows they came in in memory"
