"""Whatever a person gets wrong costs them one line: what, where, what to do. Nothing is lost."""

import errno
import gzip
import json
import os
import re
import shutil
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main as cli
from tests.fixtures.command_line import TINY, hashes, on, prefline, refusal

PAIR = {"prompt": "say yes", "chosen": "yes", "rejected": "no"}


def line(n: int) -> str:
    return json.dumps({**PAIR, "prompt": f"say {n}"})


def reading(kind: str, path: Path) -> str:
    """The `--set` that reads one file instead of the food world."""
    return f'ingest.datasets.0={{kind="{kind}",path="{path}"}}'


# Recipes

MISTAKES = {
    "unknown key": ("sample.temprature=1", "sample.temprature: unknown key", "temperature?"),
    "unknown key of a kind": (
        "ingest.datasets.0.peple=3",
        "ingest.datasets.0.peple: unknown key",
        "did you mean people?",
    ),
    "misspelt kind": (
        'sample.sampler.kind="vlm"',
        "sample.sampler: unknown kind 'vlm'",
        "one of 'auto', 'vllm', 'transformers'",
    ),
    "missing kind": ("evaluate.truth={}", "evaluate.truth: kind is missing", "rule, length"),
    "wrong member": (
        'judge={kind="panel",members=[{kind="length"},{kind="lengthy"}]}',
        "judge.members.1: unknown kind 'lengthy'",
        "one of 'rule', 'length'",
    ),
    "too few members": (
        'judge={kind="panel",members=[{kind="length"}]}',
        "judge.members:",
        "has 1 where at least 2 must be",
    ),
    "NaN": ("train.training.learning_rate=nan", "train.training.learning_rate:", "finite number"),
    "wrong type": ("ingest.datasets.0.people=few", "ingest.datasets.0.people:", "valid integer"),
    "no section": ("evaluate.sampler=3", "evaluate.sampler: must be a section", "got 3"),
    "index": ("ingest.datasets.4.people=3", "4 is not an index below 1", "datasets.0"),
    "no value": ("sample.n", "--set sample.n: write section.key=value", "sample.n=4"),
}


@pytest.mark.parametrize(("setting", "what", "remedy"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_in_a_recipe(finished: Path, setting: str, what: str, remedy: str) -> None:
    before = hashes(finished, "*.*")
    done = prefline(*on(finished, "run", setting))
    assert done.stderr.count("\n") == 1
    assert what in refusal(done)
    assert remedy in refusal(done)
    assert hashes(finished, "*.*") == before


def test_several_mistakes_are_listed_at_once() -> None:
    done = prefline("validate", "--recipe", TINY, "--set", "sample.m=3", "--set", "judge.kind=rul")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == f"error: {TINY}: 2 problems:"
    assert done.stderr.count("\n") == 3


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'name = "caf\xe9"', "byte 11 is not UTF-8; save the recipe as UTF-8"),
        (b"name = = 3", "not TOML: Invalid value (at line 1"),
        (b"", "name: missing"),
    ],
    ids=["Latin-1", "not TOML", "empty"],
)
def test_recipe_that_is_none(tmp_path: Path, content: bytes, expected: str) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_bytes(content)
    done = prefline("validate", "--recipe", recipe)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {recipe}: ")
    assert expected in done.stderr


@pytest.mark.parametrize("recipe", ["fod", "no/such.toml"])
def test_recipe_that_is_not_there(recipe: str) -> None:
    said = refusal(prefline("validate", "--recipe", recipe))
    assert said.startswith(f"error: {recipe}: no such recipe; the shipped ones are food,")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("tran",), "No such command 'tran'. Did you mean 'train'"),
        (("sample",), "give a recipe with --recipe, or with --run-dir a run"),
        (("sample", "--recip", "x"), "No such option: --recip"),
        (("show", "prompts", "--row", "x"), "Invalid value for '--row'"),
        (("run", "--recipe", TINY, "--until", "tran"), "--until tran: no such stage; one of"),
    ],
)
def test_command_line_that_makes_no_sense(
    tmp_path: Path, arguments: tuple[object, ...], expected: str
) -> None:
    assert expected in refusal(prefline(*arguments, cwd=tmp_path))
    assert not list(tmp_path.iterdir())


# Raw files

BAD_FILES: dict[str, tuple[str, bytes | None, str, str]] = {
    "missing": ("jsonl", None, "no such file", "set the path"),
    "empty": ("jsonl", b"", "the file is empty", "fetch it again"),
    "not gzip": ("jsonl.gz", b"plain", "damaged or cut-off gzip after row 0", "fetch the file"),
    "cut-off gzip": (
        "jsonl.gz",
        gzip.compress("\n".join(map(line, range(2000))).encode(), mtime=0)[:-300],
        "damaged or cut-off gzip after row",
        "fetch the file again",
    ),
    "no usable row": (
        "jsonl",
        b'[1]\n{"a": 1}\n',
        "none of 2 rows can be used",
        "check the dataset's kind",
    ),
    "not Parquet": ("parquet", b"PAR1 or so", "cannot be read as Parquet", "fetch the file again"),
}


@pytest.mark.parametrize(
    ("suffix", "content", "what", "remedy"), BAD_FILES.values(), ids=BAD_FILES.keys()
)
def test_raw_file_that_cannot_be_read(
    run_dir: Path, tmp_path: Path, suffix: str, content: bytes | None, what: str, remedy: str
) -> None:
    raw = tmp_path / f"raw.{suffix}"
    if content is not None:
        raw.write_bytes(content)
    before = hashes(run_dir / "ingest", "*")
    said = refusal(prefline(*on(run_dir, "run", reading(suffix.removesuffix(".gz"), raw))))
    assert str(raw) in said
    assert what in said
    assert remedy in said
    assert hashes(run_dir / "ingest", "*") == before


def test_parquet_of_another_schema(tmp_path: Path) -> None:
    raw = tmp_path / "other.parquet"
    pq.write_table(pa.table({"question": ["q"], "answer": ["a"]}), raw)
    said = refusal(prefline(*on(tmp_path / "run", "ingest", reading("parquet", raw))))
    assert "has the columns question, answer where chosen, rejected" in said
    assert "check the dataset's kind" in said


def test_bad_rows_are_put_aside_and_the_run_goes_on(tmp_path: Path) -> None:
    bad = {
        b'{"prompt": "\xff", "chosen": "a", "rejected": "b"}': "invalid_utf8",
        b'["a", "list"]': "not_an_object",
        b'{"prompt": "p", "chosen": 3, "rejected": "b"}': "wrong_type",
        b'{"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": NaN}': (
            "non_finite_number"
        ),
        b'{"prompt": "p", "chosen"': "invalid_json",
    }
    raw = tmp_path / "raw.jsonl"
    raw.write_bytes(b"\n".join([*(line(n).encode() for n in range(8)), *bad]) + b"\n")
    done = prefline(*on(tmp_path / "run", "ingest", reading("jsonl", raw)), "--json")
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)["counts"]
    assert (counts["rows_in"], counts["rows_kept"], counts["rejects"]) == (13, 8, 5)
    rejects = pq.read_table(tmp_path / "run" / "ingest" / "rejects.parquet").to_pylist()
    assert [(r["reason"], r["row"], r["file"]) for r in rejects] == [
        (reason, 8 + n, str(raw)) for n, reason in enumerate(bad.values())
    ]
    assert [r["raw"] for r in rejects] == [b.decode("utf-8", "backslashreplace") for b in bad]


# What stages find

CHECKPOINTS = ("sample.model.path", "train.model.path", "evaluate.policy.path")


@pytest.mark.parametrize("setting", CHECKPOINTS)
def test_checkpoint_that_is_not_there_stops_the_run_before_it_begins(
    tmp_path: Path, setting: str
) -> None:
    done = prefline(*on(tmp_path / "run", "run", f"{setting}={tmp_path}/gone"))
    assert f"{tmp_path}/gone: no such model folder; correct the model's path in the recipe" in (
        refusal(done)
    )
    assert not (tmp_path / "run" / "ingest").exists()


def test_folder_without_a_model(finished: Path, tmp_path: Path) -> None:
    said = refusal(prefline(*on(finished, "sample", f"sample.model.path={tmp_path}")))
    assert f"{tmp_path}: not a model folder" in said


def test_damaged_checkpoint(run_dir: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(run_dir / "sft" / "model", tmp_path / "model"))
    os.truncate(model / "model.safetensors", 1000)
    said = refusal(prefline(*on(run_dir, "sample", f"sample.model.path={model}")))
    assert f"{model}: cannot be loaded (" in said
    assert (run_dir / "sample" / "manifest.json").exists()


def test_zero_usable_pairs(run_dir: Path) -> None:
    # A rule that sees no difference between malformed answers.
    before = hashes(run_dir / "label", "*")
    done = prefline(*on(run_dir, "run", 'judge={kind="rule",rule="food"}'))
    said = refusal(done)
    assert said.startswith("error: label: no preference pair to train on; dropped: tie ")
    assert "use another judge" in said
    assert hashes(run_dir / "label", "*") == before


# Run directories


def test_run_directory_of_another_recipe(run_dir: Path) -> None:
    before = hashes(run_dir, "*")
    for stage in ("run", "status", "ingest"):
        said = refusal(prefline(*on(run_dir, stage, recipe=Path("food"))))
        assert said.endswith(
            f"{run_dir}: this run belongs to the recipe 'tiny', not 'food'; "
            "choose another --run-dir"
        )
    assert hashes(run_dir, "*") == before


def test_record_that_does_not_say_whose_run_it_is(run_dir: Path) -> None:
    (run_dir / "run.json").write_text("{")
    said = refusal(prefline(*on(run_dir, "run")))
    assert "run.json: does not say whose run this is" in said


@pytest.mark.parametrize("where", ["file", "file/run", "/proc/run"])
def test_run_directory_that_cannot_be_made(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("in the way")
    said = refusal(prefline(*on(tmp_path / where, "run")))
    assert f"{tmp_path / where}: cannot be written (" in said
    assert said.endswith("choose another --run-dir")
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EROFS, "it is mounted for reading only; choose another --run-dir"),
        (errno.EACCES, "change its permissions, or choose another path"),
        (errno.ENOSPC, "free some space, or choose another --run-dir"),
    ],
)
def test_disk_that_takes_no_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, remedy: str
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(number, os.strerror(number), "runs/x/sample.partial")

    monkeypatch.setattr(cli, "app", refuse)
    monkeypatch.setattr(sys, "argv", ["prefline", "run"])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.delenv("PREFLINE_TRACEBACK", raising=False)
    with pytest.raises(SystemExit, match="2"):
        cli.run_cli()
    said = capsys.readouterr().err
    assert said == f"error: runs/x/sample.partial: {os.strerror(number)}; {remedy}\n"
    monkeypatch.setenv("PREFLINE_TRACEBACK", "1")
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        cli.run_cli()


def test_rust_in_panic_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def panic(**_: object) -> None:  # as polars does with little memory
        raise pl.exceptions.PanicException("zstd returned null pointer\nmore")

    monkeypatch.setattr(cli, "app", panic)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit, match="2"):
        cli.run_cli()
    said = capsys.readouterr().err
    assert said.startswith("error: a library: PanicException: zstd returned null pointer; ")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("bug", [OSError("unheard of"), ValueError("unheard of")])
def test_a_bug_of_ours_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bug: Exception
) -> None:
    def fail(**_: object) -> None:
        raise bug

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    # Raised as it was: Python shows where, and exits with 1.
    with pytest.raises(type(bug), match="unheard of") as raised:
        cli.run_cli()
    assert raised.value is bug
    assert raised.traceback[-1].name == "fail"
    assert capsys.readouterr().err == ""
