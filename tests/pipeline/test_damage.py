"""A stage that is done stays done: nothing that a kill or a fault leaves is used or in the way."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.recipe import load_recipe
from pipeline.runs import publish
from pipeline.runs import run as running
from pipeline.runs.rounds import run_rounds
from pipeline.runs.run import Outcome, Run
from pipeline.runs.stage_status import State
from schemas.errors import ConfigError, DataError
from schemas.manifest import read_manifest
from schemas.stage import SilentProgress
from tests.fixtures.toy_stages import DOUBLE, MAKE, TOY_STAGES

HEAD = 'name = "toy"\ndescription = "d"\nhardware = "any"\n'


class _Killed(BaseException):
    pass


@pytest.fixture
def run(tmp_path: Path, toys: list[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("pipeline.runs.rounds.STAGES", TOY_STAGES)
    path = tmp_path / "toy.toml"
    path.write_text(HEAD + "[make]\n[double]\n[sum]\n")
    opened = Run(tmp_path / "run", load_recipe(path))
    opened.claim()
    return opened


def run_all(run: Run) -> None:
    run_rounds(run, None, SilentProgress(), lambda said: None)


def other_text(path: Path) -> None:
    """As long as before, and as old."""
    before = path.stat()
    path.write_text("9" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_change_that_leaves_size_and_time_is_noticed(run: Run, toys: list[str]) -> None:
    run_all(run)
    other_text(run.directory / "make" / "numbers.txt")
    said = "numbers.txt has changed since it was written"
    status = run.statuses()["make"]
    assert (status.state, status.why) == (State.DAMAGED, said)
    with pytest.raises(DataError, match=f"{said}; run `prefline make .*` to make it again"):
        run.execute(DOUBLE, SilentProgress())
    with pytest.raises(DataError, match=f"damaged: {said}; run `prefline make .*` to make it ag"):
        run_all(run)
    assert toys == ["make", "double", "sum"]
    assert run.execute(MAKE, SilentProgress())[0] is Outcome.DONE
    run_all(run)
    assert toys == ["make", "double", "sum", "make"]


def test_a_word_that_is_changed_in_a_manifest_is_damage(run: Run) -> None:
    run_all(run)
    record = run.directory / "make" / "manifest.json"
    said = json.loads(record.read_text())
    for change in ({"missing": ["all"]}, {"counts": {"rows": 1}}, {"of_nobody": 0}):
        record.write_text(json.dumps({**said, **change}))
        assert run.statuses()["make"].state is State.DAMAGED, change
    record.write_text(json.dumps(said))  # laid out otherwise it says the same
    assert run.statuses()["make"].state is State.FRESH
    record.write_text(json.dumps({**said, "sha256": None}))  # as earlier versions wrote it
    assert run.statuses()["make"].state is State.FRESH


@pytest.mark.parametrize(
    ("name", "error"),
    [("make/manifest.json", DataError), ("run.json", ConfigError), ("hub.json", DataError)],
)
def test_a_pipe_in_place_of_a_record_is_told_and_not_waited_for(
    run: Run, name: str, error: type[Exception]
) -> None:
    run.claim()
    run_all(run)
    record = run.directory / name
    record.unlink(missing_ok=True)
    os.mkfifo(record)

    def again() -> None:
        run.claim()
        run_all(run)

    with pytest.raises(error, match=r"a pipe or a device"):
        again()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"stage": 3}', "\x00\xff"])
def test_a_manifest_that_cannot_be_read_is_damage(run: Run, text: str) -> None:
    run_all(run)
    (run.directory / "make" / "manifest.json").write_text(text)
    assert run.statuses()["make"].state is State.DAMAGED
    with pytest.raises(DataError, match="not a manifest"):
        run_all(run)
    assert run.execute(MAKE, SilentProgress())[0] is Outcome.DONE
    run_all(run)


@pytest.mark.parametrize("at", ["record_finished", "complete", "publish", "outputs_of"])
def test_work_that_is_done_is_only_published(
    run: Run, toys: list[str], monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    place: Any = publish if at == "outputs_of" else running

    def dying(*anything: object) -> None:
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(place, at, dying)
        with pytest.raises(_Killed):
            run.execute(MAKE, SilentProgress())
    done = Outcome.UP_TO_DATE if at == "publish" else Outcome.DONE
    assert run.execute(MAKE, SilentProgress())[0] is done
    assert toys == ["make"] * (2 if at == "record_finished" else 1)
    manifest = read_manifest(run.directory / "make")
    assert manifest is not None
    assert (manifest.counts, manifest.warnings) == ({"numbers": 3}, ["toy data"])
    assert set(manifest.outputs) == {"numbers.txt"}
    assert sorted(p.name for p in run.directory.glob("[!.]*")) == ["make", "run.json"]


@pytest.mark.parametrize("name", [".finished", ".fingerprint", "manifest.json", "numbers.txt"])
@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\xfe", None])
def test_what_is_damaged_of_a_partial_folder_is_worked_around(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, damage: bytes | None
) -> None:
    def dying(*anything: object) -> None:
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(running, "publish", dying)
        with pytest.raises(_Killed):
            run.execute(MAKE, SilentProgress())
    path = run.directory / "make.partial" / name
    path.unlink() if damage is None else path.write_bytes(damage)
    run.execute(MAKE, SilentProgress())
    assert (run.directory / "make" / "numbers.txt").read_text() == "0\n1\n2"
    run_all(run)


@pytest.mark.parametrize("other", [b"toy date", b"toy d\\u0061ta"])
def test_a_changed_word_in_the_record_of_finished_work_has_the_work_done_again(
    run: Run, toys: list[str], monkeypatch: pytest.MonkeyPatch, other: bytes
) -> None:
    def dying(*anything: object) -> None:
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(running, "complete", dying)
        with pytest.raises(_Killed):
            run.execute(MAKE, SilentProgress())
    path = run.directory / "make.partial" / ".finished"
    changed = path.read_bytes().replace(b"toy data", other)
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    run.execute(MAKE, SilentProgress())
    manifest = read_manifest(run.directory / "make")
    assert manifest is not None
    assert manifest.warnings == ["toy data"]
    same = json.loads(b'"%b"' % other) == "toy data"
    assert toys == ["make"] * (1 if same else 2)


def test_a_link_to_a_folder_is_replaced_and_what_it_leads_to_is_kept(
    run: Run, tmp_path: Path
) -> None:
    run_all(run)
    shutil.move(run.directory / "make", tmp_path / "large disk")
    os.symlink(tmp_path / "large disk", run.directory / "make")
    run_all(run)
    other_text(tmp_path / "large disk" / "numbers.txt")
    assert run.execute(MAKE, SilentProgress())[0] is Outcome.DONE
    assert (run.directory / "make" / "numbers.txt").read_text() == "0\n1\n2"
    assert (tmp_path / "large disk" / "numbers.txt").read_text() == "99999"
    run_all(run)


def test_what_somebody_has_put_into_a_finished_folder_outlives_it(run: Run) -> None:
    run_all(run)
    theirs = run.directory / "make" / "notes" / "thesis.txt"
    theirs.parent.mkdir()
    theirs.write_text("years of work")
    assert run.statuses()["make"].state is State.FRESH
    (run.directory / "make" / "numbers.txt").unlink()
    assert run.execute(MAKE, SilentProgress())[0] is Outcome.DONE
    assert theirs.read_text() == "years of work"
    manifest = read_manifest(run.directory / "make")
    assert manifest is not None
    assert set(manifest.outputs) == {"numbers.txt"}


def test_what_kills_have_left_beside_a_stage_goes(run: Run) -> None:
    run_all(run)
    for name in (".make.old.host-1-ab.prefline-removed", ".make.partial.prefline-writing"):
        (run.directory / name).mkdir()
    run_all(run)
    assert sorted(p.name for p in run.directory.glob(".*")) == [".locks"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"\xff"),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text('{"done": "x"}'),
        lambda path: path.write_text('{"title": 1, "done": null, "total": 1, "per_second": 1}'),
        lambda path: path.mkdir(),
    ],
)
def test_a_note_of_progress_that_cannot_be_read_says_nothing(
    run: Run, spoil: Callable[[Path], Any]
) -> None:
    path = run.progress_file(MAKE)
    path.parent.mkdir(parents=True)
    spoil(path)
    (run.directory / "make.partial").mkdir()
    assert run.statuses()["make"].why == ""


def test_a_moved_run_is_fresh(run: Run, toys: list[str], tmp_path: Path) -> None:
    run_all(run)
    shutil.move(run.directory, tmp_path / "elsewhere")
    run_all(Run(tmp_path / "elsewhere", run.recipe))
    assert toys == ["make", "double", "sum"]
    assert json.loads((tmp_path / "elsewhere" / "run.json").read_text()) == {"recipe": "toy"}
