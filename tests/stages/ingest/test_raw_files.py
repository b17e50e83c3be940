"""Bad lines become rejects and the run goes on; bad files stop it with one line that says why."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.errors import BackendError, ConfigError, DataError, MissingInputError, PipelineError
from schemas.parquet import read_rows
from schemas.tables import REJECTS
from stages.ingest import STAGE
from stages.ingest.config import IngestConfig
from tests.fixtures.ingest import Ingest, pair

Write = Callable[..., str]


def line(**changes: Any) -> bytes:
    return json.dumps({**pair(), **changes}).encode()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (line()[:20], "invalid_json"),
        (line() + b"}", "invalid_json"),
        (b'{"prompt": "a\xff\xfe", "chosen": "b", "rejected": "c"}', "invalid_utf8"),
        (b'{"prompt": "a", "chosen": NaN, "rejected": "c"}', "non_finite_number"),
        (b'{"prompt": "a", "chosen": "b", "rejected": "c", "x": -Infinity}', "non_finite_number"),
        (b'{"prompt": "a", "chosen": "b", "chosen": "c", "rejected": "d"}', "duplicate_key"),
        (b'{"prompt": "\\ud83c", "chosen": "b", "rejected": "c"}', "lone_surrogate"),
        (b'{"prompt": 1' + b"0" * 5000 + b"}", "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'["prompt", "chosen"]', "not_an_object"),
        (b"null", "not_an_object"),
        (b"5", "not_an_object"),
        (b"", "blank_line"),
        (b"  \r", "blank_line"),
        (b"\x00\x00", "invalid_json"),
    ],
)
def test_a_bad_line_is_a_reject_with_its_number(
    ingest: Ingest, jsonl: Write, bad: bytes, reason: str
) -> None:
    path = jsonl([pair(1), bad, pair(2)])
    result = ingest({"kind": "jsonl", "path": path})
    (reject,) = result.table("rejects")
    assert (reject["reason"], reject["file"], reject["row"]) == (reason, path, 1)
    assert reject["raw"] == bad.rstrip(b"\r").decode("utf-8", "backslashreplace")
    assert [r["row"] for r in result.table("comparisons")] == [0, 2]
    assert result.counts[f"rejects/{reason}"] == 1


def test_whole_surrogate_pairs_bom_and_crlf_are_fine(ingest: Ingest, jsonl: Write) -> None:
    path = jsonl(
        [
            b"\xef\xbb\xbf" + line(chosen="🍕") + b"\r",
            b'{"prompt": "x", "chosen": "\\ud83c\\udf55", "rejected": "no"}',
        ]
    )
    rows = ingest({"kind": "jsonl", "path": path}, sides="as_given").table("comparisons")
    assert [r["completion_a"][0]["content"] for r in rows] == ["🍕", "🍕"]


def test_a_last_line_without_newline_counts(ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(line())
    assert ingest({"kind": "jsonl", "path": str(tmp_path / "x.jsonl")}).counts["rows_in"] == 1


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=3)), max_size=8))
def test_nothing_is_lost_whatever_happens_to_the_bytes(
    ingest: Ingest, tmp_path: Path, damage: list[tuple[int, bytes]]
) -> None:
    """In = kept + rejected, and lines that were not touched are all kept."""
    lines = [line(prompt=f"q{i}", note="\\u00e9\\ud83c") for i in range(12)]
    data = b"\n".join(lines) + b"\n"
    for place, new in damage:
        at = place % len(data)
        data = data[:at] + new + data[at + len(new) - place % 2 :]
    path = tmp_path / "damaged.jsonl"
    path.write_bytes(data)
    expected = data.count(b"\n") + (not data.endswith(b"\n"))
    try:
        result = ingest({"kind": "jsonl", "path": str(path)})
    except DataError:  # no line was left whole
        assert not set(lines) & set(data.split(b"\n"))
        return
    counts = result.counts
    assert counts["rows_in"] == expected == counts["comparisons"] + counts["rejects"]
    places = sorted(r["row"] for t in ("comparisons", "rejects") for r in result.table(t))
    assert places == list(range(expected))
    untouched = set(lines) & set(data.split(b"\n"))
    assert counts["comparisons"] >= len(untouched)


def test_every_place_to_cut_a_gzip_is_noticed(ingest: Ingest, tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(line(prompt=f"q{i}") + b"\n" for i in range(50)), mtime=0)
    path = tmp_path / "cut.jsonl.gz"
    for size in range(1, len(whole), 23):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"cut\.jsonl\.gz: .*after row \d+.*fetch"):
            ingest({"kind": "jsonl", "path": str(path)})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b"", "the file is empty"),
        ("x.jsonl.gz", gzip.compress(b"", mtime=0), "the file is empty"),
        ("x.jsonl.gz", b"", "the file is empty"),
        ("x.jsonl.gz", b"plain text", "gzip"),
        ("x.parquet", b"", "cannot be read as Parquet"),
        ("x.parquet", b"PAR1 but no more", "cannot be read as Parquet"),
        ("x.jsonl", b"PAR1\x00\xffPAR1", "none of 1 rows can be used .*invalid_utf8 1"),
        ("x.jsonl", line(chosen=" ") + b"\n" + line(chosen="\t"), "empty_chosen 2.*x.jsonl row 0"),
    ],
)
def test_a_bad_file_stops_the_run_in_one_line(
    ingest: Ingest, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    kind = "parquet" if name.endswith("parquet") else "jsonl"
    with pytest.raises(DataError, match=message) as error:
        ingest({"kind": kind, "path": str(tmp_path / name)})
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_rejects_outlive_a_failed_run(ingest: Ingest, jsonl: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 2 rows"):
        ingest({"kind": "jsonl", "path": jsonl([b"{", b"}"])})
    assert len(read_rows(tmp_path / "out0" / "rejects.parquet", REJECTS)) == 2


@pytest.mark.parametrize("kind", ["jsonl", "hh", "parquet"])
def test_a_parquet_of_another_schema_names_the_columns(
    ingest: Ingest, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"question": ["a"], "answer": ["b"]}), path)
    message = "none of" if kind == "jsonl" else "columns question, answer where chosen, rejected"
    with pytest.raises(DataError, match=message):
        ingest({"kind": kind, "path": str(path)})


def test_a_truncated_parquet_is_refused(ingest: Ingest, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist([pair(i) for i in range(100)]), path)
    whole = path.read_bytes()
    for size in (10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"x\.parquet: cannot be read as Parquet"):
            ingest({"kind": "parquet", "path": str(path)})


def test_a_parquet_whose_names_are_damaged_is_refused(ingest: Ingest, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist([pair(i) for i in range(20)]), path)
    path.write_bytes(path.read_bytes().replace(b"chosen", b"ch\xffsen"))
    with pytest.raises(DataError, match=r"x\.parquet: cannot be read as Parquet") as error:
        ingest({"kind": "parquet", "path": str(path)})
    assert "\n" not in str(error.value)


def test_parquet_rows_that_cannot_be_used(ingest: Ingest, tmp_path: Path) -> None:
    texts = pa.array([b"good", b"bad \xff", b"good", b"good"], pa.binary())
    table = pa.table(
        {
            "prompt": pa.array([f"q{i}" for i in range(4)]),
            "chosen": texts.view(pa.string()),
            "rejected": ["no", "no", None, "no"],
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    result = ingest({"kind": "parquet", "path": str(tmp_path / "x.parquet")})
    assert [(r["reason"], r["row"]) for r in result.table("rejects")] == [
        ("invalid_utf8", 1),
        ("missing_field", 2),
    ]
    assert [r["raw"][:20] for r in result.table("rejects")] == ["bad \\xff", '{"prompt": "q2", "ch']


@pytest.mark.parametrize("path", ["no-such.jsonl", "no-such-*.jsonl", "no/such/folder"])
def test_a_missing_file_is_named(ingest: Ingest, path: str) -> None:
    with pytest.raises(MissingInputError, match=r"no such file.*set the path") as error:
        ingest({"kind": "jsonl", "path": path})
    assert path in str(error.value)
    dataset = {"kind": "jsonl", "path": path}
    with pytest.raises(MissingInputError, match="no such file"):
        STAGE.files(IngestConfig.model_validate({"datasets": [dataset]}))


def test_an_unknown_suffix_and_an_empty_folder_are_refused(ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(MissingInputError, match=r"no file in this folder ends in \.jsonl, "):
        ingest({"kind": "hh", "path": str(tmp_path / "in")})
    (tmp_path / "in" / "x.xls").write_text("a,b")
    with pytest.raises(ConfigError, match=r"x\.xls: not a file that can be read"):
        ingest({"kind": "hh", "path": str(tmp_path / "in" / "x.xls")})


def test_folders_and_patterns_read_every_file_in_order(
    ingest: Ingest, jsonl: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in" / "b").mkdir(parents=True)
    jsonl([pair(2)], "in/b/x.jsonl.gz")
    jsonl([pair(1)], "in/a.jsonl")
    monkeypatch.chdir(tmp_path)
    for path, names in (
        ("in", ["in/a.jsonl", "in/b/x.jsonl.gz"]),
        ("in/*.jsonl", ["in/a.jsonl"]),
        ("in/**/*.gz", ["in/b/x.jsonl.gz"]),
        ("in/a.jsonl", ["in/a.jsonl"]),
    ):
        dataset = {"kind": "jsonl", "path": path}
        rows = ingest(dataset).table("comparisons")
        assert [r["file"] for r in rows] == names
        files = STAGE.files(IngestConfig.model_validate({"datasets": [dataset]}))
        assert [str(f) for f in files] == names


def fake_hub(monkeypatch: pytest.MonkeyPatch, load: Callable[..., Any]) -> None:
    monkeypatch.setattr(datasets, "load_dataset", load)


def test_hub_rows_are_read_through_datasets(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def load(hub_id: str, **options: Any) -> datasets.Dataset:
        asked.update(options, hub_id=hub_id)
        return datasets.Dataset.from_list([pair(0), {**pair(1), "chosen": ""}])

    fake_hub(monkeypatch, load)
    result = ingest(
        {"kind": "jsonl", "hub_id": "o/n", "hub_revision": "c0ffee", "hub_split": "test_prefs"}
        | {"keep_source_split": True}
    )
    assert asked == {
        "hub_id": "o/n",
        "name": None,
        "data_dir": None,
        "revision": "c0ffee",
        "split": "test_prefs",
        "streaming": False,
    }
    (row,), (reject,) = result.table("comparisons"), result.table("rejects")
    assert (row["file"], row["row"], row["split"]) == ("hub:o/n@c0ffee/test_prefs", 0, "test")
    assert json.loads(reject["raw"])["prompt"] == "question 1"


def test_a_hub_out_of_reach_says_what_to_do(
    ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(hub_id: str, **options: Any) -> None:
        raise ConnectionError("no route\nto host")

    fake_hub(monkeypatch, load)
    with pytest.raises(BackendError, match=r"o/n.*no route\); check .* set path") as error:
        ingest({"kind": "hh", "hub_id": "o/n"})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "dataset",
    [
        {"kind": "hh"},
        {"kind": "hh", "path": "a", "hub_id": "b"},
        {"kind": "hhh", "path": "a"},
        {"kind": "hh", "path": "a", "colour": "red"},
        {"path": "a"},
    ],
)
def test_a_wrong_recipe_is_refused_before_anything_is_read(dataset: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        IngestConfig.model_validate({"datasets": [dataset]})


def test_errors_are_ones_a_user_can_fix() -> None:
    assert issubclass(BackendError, PipelineError)
