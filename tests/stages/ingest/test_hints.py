"""A file that is something else than its name or kind says: told so, with what to do next."""

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import DataError
from schemas.stage import SilentProgress
from stages.ingest.datasets.detect_format import guess, what_next
from stages.ingest.readers.columns import default_settings, kinds_with
from stages.ingest.readers.file_diagnostics import check_opening
from stages.ingest.readers.raw_rows import RawRow
from tests.fixtures.ingest import Ingest, pair

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n"
LINES = "".join(json.dumps(pair(i)) + "\n" for i in range(2)).encode()
ARRAY = json.dumps([pair(0), pair(1)])


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.jsonl.gz", LFS, r"a\.jsonl\.gz: it is a Git LFS pointer.*git lfs pull"),
        ("a.parquet", LFS, "Git LFS pointer"),
        ("a.jsonl", LFS, "invalid_json 3.*Git LFS pointer"),
        ("a.jsonl.gz", LINES, r"is JSON and not gzipped; let its name not end in \.gz"),
        ("a.jsonl.zst", LINES, "is JSON and not packed by zstd"),
        ("a.jsonl", gzip.compress(LINES, mtime=0), r"it is gzipped: let its name end in \.gz"),
        ("a.jsonl", LINES.decode().encode("utf-16"), "it is UTF-16: write it again as UTF-8"),
        ("a.json", b"[1, 2]", r"not_an_object 1.*no JSON array of objects"),
        ("a.json", json.dumps(pair(0), indent=1).encode(), r"over several lines.*jq -c \."),
        ("a.jsonl", b"<!doctype html>\n<html>\n", "it is a web page: fetch the file again"),
        ("a.jsonl", b"\n\n", "blank_line 2.*check that kind and path belong together"),
    ],
)
def test_what_a_file_really_is_is_said(
    ingest: Ingest, tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(data)
    kind = "parquet" if name.endswith("parquet") else "jsonl"
    with pytest.raises(DataError, match=said):
        ingest({"kind": kind, "path": str(tmp_path / name)})


def test_parquet_and_lines_are_told_apart(ingest: Ingest, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([pair()]), tmp_path / "a")
    with pytest.raises(DataError, match=r"it is Parquet.*kind = 'parquet'"):
        ingest({"kind": "jsonl", "path": str(tmp_path / "a")})
    (tmp_path / "b").write_bytes(LINES)
    with pytest.raises(DataError, match=r"b: is JSON and not Parquet; let its name end in \.jsonl"):
        ingest({"kind": "parquet", "path": str(tmp_path / "b")})


def test_what_cannot_be_opened_is_for_the_reader_to_say(tmp_path: Path) -> None:
    check_opening(tmp_path, "a folder", parquet=True)
    check_opening(tmp_path / "gone", "gone", parquet=False)


def test_a_line_that_begins_oddly_stops_nobody(ingest: Ingest, tmp_path: Path) -> None:
    """What could be another kind of file is a row all the same where others can be read."""
    for first in (b"[1]", b"[", b"{", b"<p>", b"PAR1", LFS.split(b"\n")[0], b"\xff\xfe"):
        (tmp_path / "a.jsonl").write_bytes(first + b"\n" + LINES)
        result = ingest({"kind": "jsonl", "path": str(tmp_path / "a.jsonl")})
        assert (result.counts["rows_in"], result.counts["rejects"]) == (3, 1)


HH = {"chosen": "\n\nHuman: Hi\n\nAssistant: yes", "rejected": "\n\nHuman: Hi\n\nAssistant: no"}
STEER: dict[str, Any] = {"context": [{"role": "user", "content": "Hi"}], "overall_preference": 9}


@pytest.mark.parametrize(
    ("row", "kind", "said"),
    [
        (HH, "arena", "that row has the shape of kind = 'hh'"),
        (HH, "hh", "the kind fits: check the filters"),
        ({"winner": "tie"}, "hh", "check that kind and path"),
        (STEER | {"response1": "a", "response2": "b"}, "jsonl", "shape of kind = 'helpsteer3'"),
        (pair(), "parquet", "the kind fits"),
    ],
)
def test_the_kind_that_fits_is_named(row: dict[str, Any], kind: str, said: str) -> None:
    assert said in what_next(json.dumps(row), default_settings(kind), {"x"})


def test_a_good_shape_with_bad_content_is_no_other_kind() -> None:
    """TruthfulQA's rows are ultrafeedback's to refuse, although TRL's format would take them."""
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "yes"}]
    other = [talk[0], {"role": "assistant", "content": "no"}]
    row = {"chosen": talk, "rejected": other, "score_chosen": 2, "score_rejected": 1}
    assert guess(RawRow("x", 0, row))[0] == "ultrafeedback"
    kind, outcomes = guess(RawRow("x", 0, row | {"source": "truthful_qa"}))
    assert (kind, getattr(outcomes[0], "reason", None)) == ("ultrafeedback", "eval_contamination")


def test_the_kinds_of_some_columns_are_named(ingest: Ingest, tmp_path: Path) -> None:
    assert kinds_with(["context", "response1", "response2", "overall_preference"]) == [
        "helpsteer3",
        "parquet",
    ]
    pq.write_table(pa.Table.from_pylist([HH]), tmp_path / "a.parquet")
    with pytest.raises(
        DataError, match="kind = 'ultrafeedback' or kind = 'hh' or kind = 'parquet'"
    ):
        ingest({"kind": "arena", "path": str(tmp_path / "a.parquet")})


def test_hidden_files_of_a_folder_are_passed_over(ingest: Ingest, tmp_path: Path) -> None:
    for name in ("a.jsonl", ".b.jsonl", ".cache/c.jsonl", "d/.ipynb_checkpoints/e.jsonl"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(LINES)
    assert ingest({"kind": "jsonl", "path": str(tmp_path / "in")}).counts["rows_in"] == 2


def test_left_out_rows_are_said(
    ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    monkeypatch.setattr(SilentProgress, "note", lambda self, message: notes.append(message))
    (tmp_path / "a.jsonl").write_bytes(LINES + b"{\n" + LINES)
    ingest({"kind": "jsonl", "path": str(tmp_path / "a.jsonl")})
    assert "3 of 5 rows are left out (duplicate 2, invalid_json 1): see rejects.parquet" in notes


def test_votes_are_read_from_csv_as_published(ingest: Ingest, tmp_path: Path) -> None:
    """Prompts and answers of arena votes are JSON in CSV."""
    texts = {"prompt": '["Hi\\n"]', "response_a": '["a"]', "response_b": '["b"]'}
    votes = {"winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}
    path = tmp_path / "votes" / "train.csv"
    path.parent.mkdir()
    pl.DataFrame([texts | votes]).write_csv(path)
    for where in (path, path.parent):
        (row,) = ingest({"kind": "arena", "path": str(where)}).table("comparisons")
        assert (row["prompt"][0]["content"], row["label"]) == ("Hi\n", "A")
