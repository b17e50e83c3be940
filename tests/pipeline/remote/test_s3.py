"""Commands on s3:// addresses, against a server on this machine that speaks S3."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from evals.files.opening.sending import new_folder
from pipeline.cli import app
from schemas.errors import BackendError, ConfigError
from tests.fixtures.command_line import TINY, prefline, refusal
from tests.fixtures.ingest import pair
from tests.fixtures.s3_store import BUCKET, s3_store

pytestmark = pytest.mark.moto


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(tmp_path)
    with s3_store(tmp_path, monkeypatch) as found:
        yield found


def run(*words: object) -> Result:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def rows(texts: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in texts).encode()


def refused(folder: Path, *words: object) -> str:
    """What a command that is refused says: one line, and exit code 2."""
    return refusal(prefline(*words, cwd=folder))


def test_pairs_are_ingested_from_a_bucket_and_exported_to_it(store: Any, tmp_path: Path) -> None:
    store.pipe(f"{BUCKET}/data/a.jsonl", rows([pair(i) for i in range(4)]))
    store.pipe(f"{BUCKET}/data/b.jsonl", rows([pair(i) for i in range(4, 40)]))
    (tmp_path / "r.toml").write_text(
        f'name = "r"\n[ingest]\n[[ingest.datasets]]\nkind = "jsonl"\npath = "{BUCKET}/data"\n'
    )
    run("validate", "-r", "r.toml")
    run("ingest", "-r", "r.toml", "-d", "run")
    done = run(
        "export", "ingest/comparisons", "--to", "trl", "--out", f"{BUCKET}/out/trl", "-d", "run",
        "--json",
    )  # fmt: skip
    counts = json.loads(done.stdout)["files"]
    assert sum(one["rows"] for one in counts.values()) == 40
    there = {Path(name).name for name in store.find(f"{BUCKET}/out/trl")}
    assert there == set(counts)
    read = [pl.read_parquet(store.cat_file(name)) for name in store.find(f"{BUCKET}/out/trl")]
    said = {row["chosen"][-1]["content"] for one in read for row in one.to_dicts()}
    assert said == {f"good {i}" for i in range(40)}
    assert not (tmp_path / "s3:").exists()


def test_prompts_and_outputs_of_a_comparison_lie_in_a_bucket(store: Any) -> None:
    store.pipe(f"{BUCKET}/p.jsonl", rows([{"prompt": f"Question {i}?"} for i in range(6)]))
    for name, text in (("long", "A longer answer, it is."), ("short", "Short.")):
        given = [{"prompt": f"Question {i}?", "output": text} for i in range(6)]
        store.pipe(f"{BUCKET}/{name}.jsonl", rows(given))
    words = (
        "compare", f"{BUCKET}/short.jsonl", f"{BUCKET}/long.jsonl", "--prompts",
        f"{BUCKET}/p.jsonl", "-j", "length", "-d", "c", "--json",
    )  # fmt: skip
    found = json.loads(run(*words).stdout)
    assert {row["name"]: row["win_rate"] for row in found["rows"]} == {"long": 1.0, "short": 0.5}
    prompts = pl.read_parquet("c/evaluate/prompts.parquet")
    assert set(prompts["file"]) == {f"{BUCKET}/p.jsonl"}
    # What has changed there is compared anew.
    store.pipe(f"{BUCKET}/p.jsonl", rows([{"prompt": f"Question {i}?"} for i in range(4)]))
    again = json.loads(run(*words).stdout)
    assert [row["n"] for row in again["rows"]] == [4, 4]


def test_what_is_not_there_or_taken_is_one_line(store: Any, tmp_path: Path) -> None:
    missing = f"{BUCKET}/none.jsonl"
    said = refused(tmp_path, "compare", missing, f"b={missing}", "-p", missing, "-j", "length")
    assert f"{missing}: no such file there; correct the path" in said
    store.pipe(f"{BUCKET}/taken/a.jsonl", b"{}\n")
    with (
        pytest.raises(ConfigError, match="taken: exists; delete it or choose another"),
        new_folder(f"{BUCKET}/taken"),
    ):
        pass
    said = refused(tmp_path, "ingest", "-d", f"{BUCKET}/runs/x", "-r", TINY)
    assert f"{BUCKET}/runs/x: this is written to a folder here" in said
    assert not (tmp_path / "s3:").exists()


def test_a_sending_that_fails_leaves_nothing(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put = type(store).put_file

    def failing(self: Any, path: str, target: str, **more: Any) -> None:
        if target.endswith("b.txt"):
            raise OSError("the line is cut")
        put(self, path, target, **more)

    def send() -> None:
        with new_folder(f"{BUCKET}/half") as folder:
            (folder / "a.txt").write_text("a")
            (folder / "b.txt").write_text("b")

    monkeypatch.setattr(type(store), "put_file", failing)
    with pytest.raises(BackendError, match=r"cannot be reached .*the line is cut"):
        send()
    store.invalidate_cache()
    assert not store.exists(f"{BUCKET}/half")


def test_nobody_at_the_address_is_one_line(
    store: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    type(store).clear_instance_cache()
    missing = f"{BUCKET}/p.jsonl"
    said = refused(tmp_path, "compare", missing, f"b={missing}", "-p", missing, "-j", "length")
    assert f"{missing}: cannot be reached (" in said
    assert "check the address, the network and the credentials of s3" in said
