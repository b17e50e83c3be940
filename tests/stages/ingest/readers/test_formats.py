"""Data as it lies there: every format gives the rows that JSON Lines give, in the fast way too."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from schemas.errors import DataError
from schemas.stage import SilentProgress
from stages.ingest.datasets.config import JsonlDataset
from stages.ingest.datasets.own.preferences import OwnFilesReader
from stages.ingest.readers.sources import FileReader
from tests.fixtures.ingest import Ingest, pair

ROWS: list[dict[str, Any]] = [
    dict(pair(i)) | {"category": None if i % 2 else "odd"} for i in range(7)
]
Write = Callable[[Path], tuple[str, Path]]


def _csv(folder: Path, name: str, delimiter: str) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    path = folder / name
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def _text(folder: Path, text: str) -> Path:
    (folder / "rows.json").write_text(text)
    return folder / "rows.json"


def _saved(folder: Path) -> Path:
    whole = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": whole}).save_to_disk(folder / "saved")
    (folder / "saved/train/cache-0123.arrow").write_bytes(b"what a map left")
    return folder / "saved"


def _feather(folder: Path) -> Path:
    feather.write_feather(pa.Table.from_pylist(ROWS), folder / "x.feather", compression="lz4")
    return folder / "x.feather"


WAYS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "array": ("jsonl", lambda folder: _text(folder, json.dumps(ROWS))),
    "array over several lines": ("jsonl", lambda folder: _text(folder, json.dumps(ROWS, indent=1))),
    "csv": ("csv", lambda folder: _csv(folder, "x.csv", ",")),
    "tsv, gzipped": ("csv", lambda folder: _csv(folder, "x.tsv.gz", "\t")),
    "csv by semicolons": ("csv", lambda folder: _csv(folder, "x.csv", ";")),
    "save_to_disk": ("arrow", _saved),
    "feather": ("arrow", _feather),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_format_gives_the_same_rows(
    ingest: Ingest, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, write = WAYS[way]
    plain = tmp_path / "plain.jsonl"
    plain.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    wanted = ingest({"kind": "jsonl", "path": str(plain)}).table("comparisons")
    found = ingest({"kind": kind, "path": str(write(tmp_path))}).table("comparisons")
    nameless = [{**row, "file": "", "source": ""} for row in wanted]
    assert [{**row, "file": "", "source": ""} for row in found] == nameless


def test_tables_are_read_in_whole_columns(
    ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a hub's data and of Arrow's files no row is looked at alone but the first of a piece."""
    seen: list[Any] = []
    parse = OwnFilesReader.parse

    def noted(reader: OwnFilesReader, row: Any) -> Any:
        seen.append(row)
        return parse(reader, row)

    monkeypatch.setattr(OwnFilesReader, "parse", noted)
    monkeypatch.setattr(
        datasets, "load_dataset", lambda hub_id, **options: datasets.Dataset.from_list(ROWS)
    )
    rows = ingest({"kind": "jsonl", "hub_id": "o/n"}).table("comparisons")
    assert (len(rows), len(seen)) == (len(ROWS), 1)
    ingest({"kind": "arrow", "path": str(_saved(tmp_path))})
    assert len(seen) == 2


def test_an_array_that_breaks_off_loses_its_last_row_alone(ingest: Ingest, tmp_path: Path) -> None:
    whole = json.dumps(ROWS)
    path = _text(tmp_path, whole[: whole.rindex("}") - 3])
    result = ingest({"kind": "jsonl", "path": str(path)})
    assert result.counts["rows_kept"] == len(ROWS) - 1
    assert [(r["reason"], r["row"]) for r in result.table("rejects")] == [("invalid_json", 6)]


def test_a_line_break_inside_a_text_of_an_array_is_no_white_space(
    ingest: Ingest, tmp_path: Path
) -> None:
    broken = json.dumps(ROWS).replace("question 3", "question\n3")
    result = ingest({"kind": "jsonl", "path": str(_text(tmp_path, broken))})
    assert [(r["reason"], r["row"]) for r in result.table("rejects")] == [("invalid_json", 3)]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"prompt,chosen,prompt\na,b,c\n", "names the column 'prompt' twice"),
        (b"prompt,chosen,rejected\n", "the file has no rows"),
        (b'prompt,chosen,rejected\na,"b,c\n', "not CSV after row 0"),
        (b"a,b\n1,2\n", r"has the columns a, b where chosen, rejected .*columns = \{"),
    ],
)
def test_what_is_no_csv_is_told_in_one_line(
    ingest: Ingest, tmp_path: Path, data: bytes, said: str
) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    with pytest.raises(DataError, match=said):
        ingest({"kind": "csv", "path": str(tmp_path / "x.csv")})


def test_rows_of_csv_that_cannot_be_used(ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(
        b"prompt,chosen,rejected,chosen_rating,rejected_rating\n"
        b'q,"yes,\nall",no,4.5,2\nq,yes\n\nq,\xff,no,1,1\nq,,no,1,1\n'
    )
    result = ingest({"kind": "csv", "path": str(tmp_path / "x.csv")}, sides="as_given")
    (row,) = result.table("comparisons")
    assert (row["completion_a"][0]["content"], row["strength"]) == ("yes,\nall", 2.5)
    assert [(r["reason"], r["row"]) for r in result.table("rejects")] == [
        ("wrong_columns", 1),
        ("invalid_utf8", 2),
        ("missing_field", 3),
    ]


def test_columns_have_other_names(
    ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In JSON, whose lines are cut in whole columns too, and in tables."""
    theirs = {"prompt": "ask", "chosen": "good", "rejected": "bad"}
    rows = [{theirs.get(k, k): v for k, v in pair(i).items()} | {"id": "x"} for i in range(3)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    notes: list[str] = []
    monkeypatch.setattr(SilentProgress, "note", lambda self, message: notes.append(message))
    found = [
        ingest({"kind": kind, "path": str(tmp_path / f"x.{kind}"), "columns": theirs})
        for kind in ("jsonl", "parquet")
    ]
    for result in found:
        assert [r["prompt"][0]["content"] for r in result.table("comparisons")] == [
            f"question {i}" for i in range(3)
        ]
    assert notes == [f"{k}: columns that are not read: id (3 rows)" for k in ("jsonl", "parquet")]
    with pytest.raises(DataError, match="has no column asked, which columns names"):
        ingest(
            {"kind": "parquet", "path": str(tmp_path / "x.parquet"), "columns": {"prompt": "asked"}}
        )


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv", "arrow"])
def test_a_refusal_names_the_columns_and_the_mapping_that_reads_them(
    ingest: Ingest, tmp_path: Path, kind: str
) -> None:
    rows = [{"Task": "q", "preferred": "yes", "worse": "no"}]
    path = tmp_path / f"x.{kind}"
    if kind == "jsonl":
        path.write_text(json.dumps(rows[0]) + "\n")
    elif kind == "csv":
        path.write_text("Task,preferred,worse\nq,yes,no\n")
    elif kind == "arrow":
        feather.write_feather(pa.Table.from_pylist(rows), path)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(DataError) as error:
        ingest({"kind": kind, "path": str(path)})
    said = "columns = { prompt = 'Task', chosen = 'preferred', rejected = 'worse' } reads them"
    assert said in str(error.value)
    assert "--columns prompt=Task,chosen=preferred,rejected=worse" in str(error.value)
    assert "Task, preferred, worse" in str(error.value)
    columns = {"prompt": "Task", "chosen": "preferred", "rejected": "worse"}
    assert ingest({"kind": kind, "path": str(path), "columns": columns}).counts["rows_kept"] == 1


def test_unpaired_answers_are_paired_per_prompt(ingest: Ingest, tmp_path: Path) -> None:
    rated = [("p", "a", True), ("q", "b", True), ("p", "c", False), ("p", "d", "false")]
    rated += [("q", "b", 0), ("p", "e", 1), ("r", "f", "maybe")]
    (tmp_path / "x.jsonl").write_text(
        "".join(
            json.dumps({"prompt": p, "completion": c, "label": label}) + "\n"
            for p, c, label in rated
        )
    )
    result = ingest({"kind": "kto", "path": str(tmp_path / "x.jsonl")}, sides="as_given")
    assert [
        (r["row"], r["completion_a"][0]["content"], r["completion_b"][0]["content"])
        for r in result.table("comparisons")
    ] == [(2, "a", "c"), (5, "e", "d")]
    assert sorted((r["row"], r["reason"]) for r in result.table("rejects")) == [
        (4, "contradictory_label"),
        (6, "unknown_label"),
    ]
    assert [
        (r["row"], r["completion"][0]["content"], r["desirable"]) for r in result.table("unpaired")
    ] == [(1, "b", True)]
    assert {r["prompt_id"] for r in result.table("unpaired")} <= {
        r["prompt_id"] for r in result.table("prompts")
    }
    of = {"kind": "kto", "path": str(tmp_path / "x.jsonl"), "max_rows": 3}
    few = ingest(of)
    assert (few.counts["unpaired"], few.counts["comparisons"], few.counts["rejects"]) == (1, 1, 0)
    strict = ingest({**of, "left_over": "reject"})
    assert strict.counts["rejects/unpaired"] == 1
    assert "unpaired" not in strict.counts


def test_one_sign_is_enough_and_signs_that_contradict_are_said(
    ingest: Ingest, tmp_path: Path
) -> None:
    """Thumbs up alone, in two files; one answer is good in the first and bad in the second."""
    files = {"a": [("p", "x", True), ("q", "y", True)], "b": [("q", "y", False), ("p", "x", True)]}
    for name, rated in files.items():
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(
                json.dumps({"prompt": p, "completion": c, "label": label, "category": "chat"})
                + "\n"
                for p, c, label in rated
            )
        )
    result = ingest({"kind": "kto", "path": str(tmp_path / "*.jsonl")})
    assert sorted((r["completion"][0]["content"], r["desirable"]) for r in result.table("unpaired"))
    assert result.counts["unpaired"] == 2
    assert result.counts["comparisons"] == result.counts["demonstrations"] == 0
    assert {r["category"] for r in result.table("unpaired")} == {"chat"}
    assert sorted(r["reason"] for r in result.table("rejects")) == [
        "contradictory_duplicate",
        "duplicate",
    ]


def test_a_stronger_models_answers_are_chosen_over_a_weaker_ones(
    ingest: Ingest, tmp_path: Path
) -> None:
    """No judge: by prompt, the first beside the first; other columns, other order, other format."""
    strong = [("p", "good"), ("q", "fine"), ("p", "better"), ("r", "alone"), ("s", "same")]
    weak = [("q", "poor"), ("p", "bad"), ("s", "same"), ("p", "worse")]
    (tmp_path / "strong.jsonl").write_text(
        "".join(json.dumps({"instruction": p, "output": c}) + "\n" for p, c in strong)
    )
    table = pa.table({"instruction": [p for p, _ in weak], "output": [c for _, c in weak]})
    pq.write_table(table, tmp_path / "weak.parquet")
    of = {"kind": "delta", "path": str(tmp_path / "strong.jsonl")}
    of |= {"weaker": str(tmp_path / "weak.parquet")}
    result = ingest(of | {"columns": {"completion": "output"}}, sides="as_given")
    assert [
        (r["completion_a"][0]["content"], r["completion_b"][0]["content"], r["label_source"])
        for r in result.table("comparisons")
    ] == [("good", "bad", "delta"), ("fine", "poor", "delta"), ("better", "worse", "delta")]
    assert {r["label"] for r in result.table("comparisons")} == {"A"}
    assert [(r["row"], r["reason"]) for r in result.table("rejects")] == [
        (3, "unpaired"),
        (4, "identical_completions"),
    ]


def test_a_reader_says_what_it_has_looked_at() -> None:
    reader: FileReader[Any] = OwnFilesReader(JsonlDataset(path="x", columns={"prompt": "ask"}))
    reader.parse(reader.watched({"ask": "q", "chosen": "a", "rejected": "b", "id": 1}))
    assert {"ask", "chosen", "rejected"} <= reader.looked_at
    assert "id" not in reader.looked_at
