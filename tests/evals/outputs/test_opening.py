"""Outputs are read from whatever the rows lie in, by one way of opening files."""

import gzip
import json
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from evals.files.opening.one_file import one_file
from evals.files.outputs.outputs import read_outputs
from evals.files.outputs.prompts import read_prompts
from evals.files.outputs.rows import file_rows
from evals.models.contender_spec import contender_source
from evals.models.contenders import OutputsFile, contender_fingerprint
from schemas.errors import BackendError, DataError, MissingInputError

ROWS = [{"prompt": f"question {i}?", "output": f"answer {i}, said"} for i in range(4)]
TABLE = pa.Table.from_pylist(ROWS)
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def csv_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(TABLE, sink)
    return bytes(sink.getvalue().to_pybytes())


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue().to_pybytes())


def written(folder: Path) -> dict[str, Path]:
    """The same rows in every form."""
    texts = {
        "a.jsonl": LINES,
        "a.json": json.dumps(ROWS).encode(),
        "a.csv": csv_bytes(),
        "b.jsonl.gz": gzip.compress(LINES),
        "b.jsonl.zst": zstd(LINES),
        "b.csv.gz": gzip.compress(csv_bytes()),
        "b.csv.zst": zstd(csv_bytes()),
        "b.json.zst": zstd(json.dumps(ROWS).encode()),
    }
    for name, data in texts.items():
        (folder / name).write_bytes(data)
    pq.write_table(TABLE, folder / "c.parquet")
    pyarrow.feather.write_feather(TABLE, folder / "c.feather")
    saved = folder / "saved"
    saved.mkdir()
    file = str(saved / "data-00000-of-00001.arrow")
    with pa.OSFile(file, "wb") as sink, pa.ipc.new_stream(sink, TABLE.schema) as stream:
        stream.write_table(TABLE)
    (saved / "state.json").write_text("{}")
    (saved / "dataset_info.json").write_text("{}")
    return {path.name: path for path in sorted(folder.iterdir())}


def test_every_form_has_the_same_rows(tmp_path: Path) -> None:
    forms = written(tmp_path)
    assert len(forms) == 11
    for name, path in forms.items():
        assert [row for _, row in file_rows(path)] == ROWS, name
        assert [o.turns for o in read_outputs(path)] == [[row["output"]] for row in ROWS], name
        assert [p.prompt[0]["content"] for p in read_prompts(path)] == [
            row["prompt"] for row in ROWS
        ], name
        assert isinstance(contender_source(str(path)), OutputsFile), name


def test_a_remote_file_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFLINE_CACHE", str(tmp_path / "cache"))
    store = fsspec.filesystem("memory")
    store.pipe("/opened/mine.jsonl", LINES)
    source = contender_source("memory://opened/mine.jsonl")
    assert isinstance(source, OutputsFile)
    [local] = source.files()
    assert local.read_bytes() == LINES
    assert contender_fingerprint(source) == contender_fingerprint(OutputsFile(outputs=str(local)))
    with pytest.raises(MissingInputError, match=r"memory://opened/gone\.jsonl: no such file"):
        one_file("memory://opened/gone.jsonl")
    with pytest.raises(BackendError, match=r"nosuch://x/y\.jsonl"):
        one_file("nosuch://x/y.jsonl")


def test_a_folder_of_several_files_is_not_guessed_at(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(DataError, match=r"holds \d+ files, and one is asked for; name one"):
        one_file(str(tmp_path))


def test_what_is_damaged_is_told_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(gzip.compress(LINES)[:-9])
    with pytest.raises(DataError, match=r"cut\.jsonl\.gz: damaged or cut-off gzip"):
        list(file_rows(path))
    (tmp_path / "x.arrow").write_bytes(b"no arrow at all, by no means")
    with pytest.raises(DataError, match=r"x\.arrow: row 0"):
        list(file_rows(tmp_path / "x.arrow"))
