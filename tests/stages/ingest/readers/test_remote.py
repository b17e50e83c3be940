"""Data on a remote store: read through fsspec, fetched once, and told of where it is not."""

import json
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipeline.preflight.checks import problems
from pipeline.recipe import load_recipe
from schemas.errors import BackendError, MissingInputError
from tests.fixtures.ingest import Ingest, pair


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PREFLINE_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for name, numbers in (("data/a.jsonl", range(2)), ("data/b/c.jsonl", range(2, 5))):
        rows = "".join(json.dumps(pair(i)) + "\n" for i in numbers)
        memory.pipe(f"/{name}", rows.encode())
    return memory


def test_a_file_a_folder_and_a_pattern_are_read(ingest: Ingest, store: Any) -> None:
    for path, files in (
        ("memory://data/a.jsonl", ["memory:///data/a.jsonl"]),
        ("memory://data", ["memory:///data/a.jsonl", "memory:///data/b/c.jsonl"]),
        ("memory://data/*/*.jsonl", ["memory:///data/b/c.jsonl"]),
    ):
        rows = ingest({"kind": "jsonl", "path": path}).table("comparisons")
        assert sorted({row["file"] for row in rows}) == files


def test_what_is_fetched_is_kept_until_it_changes(
    ingest: Ingest, store: Any, tmp_path: Path
) -> None:
    dataset = {"kind": "jsonl", "path": "memory://data/a.jsonl"}
    for _ in range(2):
        assert ingest(dataset).counts["rows_in"] == 2
    assert len(list((tmp_path / "cache/remote").iterdir())) == 1
    store.pipe("/data/a.jsonl", (json.dumps(pair(9)) + "\n").encode())
    assert ingest(dataset).counts["rows_in"] == 1


@pytest.mark.parametrize(
    ("path", "error", "said"),
    [
        ("memory://data/none.jsonl", MissingInputError, "no such file there"),
        ("nosuch://a/b.jsonl", BackendError, "cannot be reached .*Protocol not known: nosuch"),
        ("gs://bucket/b.jsonl", BackendError, "install gcsfs"),
    ],
)
def test_what_cannot_be_had_is_one_line(
    ingest: Ingest, store: Any, path: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as raised:
        ingest({"kind": "jsonl", "path": path})
    assert path in str(raised.value)
    assert "\n" not in str(raised.value)


def test_it_is_found_before_anything_is_paid_for(store: Any, tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        'name = "r"\n[ingest]\n[[ingest.datasets]]\nkind = "jsonl"\npath = "memory://gone.jsonl"\n'
    )
    (problem,) = problems(load_recipe(recipe))
    assert problem.startswith("memory://gone.jsonl: no such file there")
