import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.recipe import Recipe, load_recipe
from pipeline.runs.fingerprint import fingerprint
from pipeline.runs.locks import is_held, run_lock, stage_lock
from pipeline.runs.progress_file import Recorder
from pipeline.runs.run import Outcome, Run
from pipeline.runs.stage_status import State
from schemas.errors import (
    ConfigError,
    DataError,
    MissingInputError,
    RunLockedError,
    StaleInputError,
)
from schemas.manifest import read_manifest
from schemas.stage import SilentProgress, StageContext
from tests.fixtures.patience import PATIENCE
from tests.fixtures.toy_stages import DOUBLE, MAKE, SUM, TOY_STAGES, MakeConfig

HEAD = 'name = "toy"\ndescription = "d"\nhardware = "any"\n'


def recipe(tmp_path: Path, text: str = "[make]\n[double]\n[sum]\n") -> Recipe:
    path = tmp_path / "toy.toml"
    path.write_text(HEAD + text)
    return load_recipe(path)


def run_all(run: Run) -> list[str]:
    return [str(run.execute(stage, SilentProgress())[0]) for stage in TOY_STAGES]


@pytest.fixture
def run(tmp_path: Path, toys: list[str]) -> Run:
    opened = Run(tmp_path / "run", recipe(tmp_path))
    opened.claim()
    return opened


def test_second_run_does_nothing(run: Run, toys: list[str]) -> None:
    assert run_all(run) == ["done"] * 3
    assert toys == ["make", "double", "sum"]
    assert run_all(run) == ["up to date"] * 3
    assert toys == ["make", "double", "sum"]
    assert (run.directory / "sum" / "total.txt").read_text() == "sum 6"


def test_a_stage_that_works_in_another_folder_writes_its_progress_into_the_run(
    toys: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a benchmark's tasks do."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    run = Run(Path("run"), recipe(tmp_path))
    run.claim()
    seen: list[bool] = []

    def moves(config: MakeConfig, context: StageContext) -> Mapping[str, int]:
        with contextlib.chdir(elsewhere), context.progress.task("work", 2, "rows") as task:
            task.advance(1)
        seen.append((tmp_path / run.progress_file(MAKE)).is_file())
        return {}

    run.execute(dataclasses.replace(MAKE, run=moves), SilentProgress())
    assert seen == [True]
    assert list(elsewhere.iterdir()) == []


def test_manifest_tells_what_was_made(run: Run) -> None:
    run_all(run)
    manifest = read_manifest(run.directory / "make")
    assert manifest is not None
    assert manifest.counts == {"numbers": 3}
    assert manifest.warnings == ["toy data"]
    assert manifest.outputs["numbers.txt"].size_bytes == 5
    assert manifest.payload["config"] == {"size": 3, "source": None, "fail": False}
    assert not list(run.directory.glob("*.partial"))


def test_changed_setting_reruns_the_stage_and_what_follows(
    run: Run, toys: list[str], tmp_path: Path
) -> None:
    run_all(run)
    toys.clear()
    changed = Run(run.directory, recipe(tmp_path, "[make]\n[double]\nfactor = 3\n[sum]\n"))
    assert run_all(changed) == ["up to date", "done", "done"]
    assert toys == ["double", "sum"]


def test_upstream_that_comes_out_the_same_reruns_nothing_below(
    run: Run, toys: list[str], tmp_path: Path
) -> None:
    run_all(run)
    toys.clear()
    (tmp_path / "raw.txt").write_text("raw")
    source = f"[make]\nsource = '{tmp_path / 'raw.txt'}'\n[double]\n[sum]\n"
    assert run_all(Run(run.directory, recipe(tmp_path, source))) == [
        "done",
        "up to date",
        "up to date",
    ]


def test_edited_recipe_with_the_same_content_reruns_nothing(run: Run, tmp_path: Path) -> None:
    run_all(run)
    same = recipe(tmp_path, "# a comment\n[sum]\n[double]\nfactor = 2\n\n[make]\nsize = 3\n")
    assert run_all(Run(run.directory, same)) == ["up to date"] * 3


def test_raw_file_is_part_of_the_fingerprint(run: Run, tmp_path: Path) -> None:
    raw = tmp_path / "raw.txt"
    raw.write_text("one")
    with_file = recipe(tmp_path, f"[make]\nsource = '{raw}'\n")
    first = Run(tmp_path / "other", with_file)
    assert first.execute(MAKE, SilentProgress())[0] is Outcome.DONE
    assert first.execute(MAKE, SilentProgress())[0] is Outcome.UP_TO_DATE
    raw.write_text("two more")
    assert first.statuses()["make"].state is State.STALE
    assert first.execute(MAKE, SilentProgress())[0] is Outcome.DONE
    raw.unlink()
    with pytest.raises(MissingInputError, match=r"raw\.txt: no such file"):
        first.execute(MAKE, SilentProgress())


def test_stale_upstream_is_refused_with_field_and_command(run: Run, tmp_path: Path) -> None:
    run_all(run)
    changed = Run(run.directory, recipe(tmp_path, "[make]\nsize = 4\n[double]\n[sum]\n"))
    with pytest.raises(StaleInputError, match=r"config\.size: 3 -> 4; run `prefline make --recipe"):
        changed.execute(DOUBLE, SilentProgress())
    states = {name: status.state for name, status in changed.statuses().items()}
    assert states == {"make": State.STALE, "double": State.STALE, "sum": State.STALE}


def test_missing_upstream_is_refused(run: Run) -> None:
    with pytest.raises(MissingInputError, match="make: not made yet; run `prefline make"):
        run.execute(DOUBLE, SilentProgress())


@pytest.mark.parametrize("damage", ["truncate", "delete"])
def test_damaged_upstream_is_refused_and_made_again(run: Run, damage: str) -> None:
    run_all(run)
    path = run.directory / "make" / "numbers.txt"
    path.unlink() if damage == "delete" else path.write_text("0")
    with pytest.raises(DataError, match=r"numbers\.txt (is missing|has 1 bytes instead of 5)"):
        run.execute(DOUBLE, SilentProgress())
    assert run.execute(MAKE, SilentProgress())[0] is Outcome.DONE
    assert run.execute(DOUBLE, SilentProgress())[0] is Outcome.UP_TO_DATE


def test_failed_stage_keeps_the_old_output_and_continues(
    run: Run, toys: list[str], tmp_path: Path
) -> None:
    run_all(run)
    failing = Run(run.directory, recipe(tmp_path, "[make]\nfail = true\n[double]\n[sum]\n"))
    with pytest.raises(RuntimeError, match="pulled"):
        failing.execute(MAKE, SilentProgress())
    assert (run.directory / "make" / "numbers.txt").exists()
    assert (run.directory / "make.partial" / "half").exists()
    # The same fingerprint finds what was left; another one throws it away.
    outcome, manifest = failing.execute(MAKE, SilentProgress())
    assert outcome is Outcome.DONE
    assert manifest.provenance.resumed
    assert set(manifest.outputs) == {"numbers.txt"}


def test_partial_of_other_settings_is_thrown_away(run: Run, tmp_path: Path) -> None:
    failing = Run(run.directory, recipe(tmp_path, "[make]\nfail = true\n"))
    with pytest.raises(RuntimeError, match="pulled"):
        failing.execute(MAKE, SilentProgress())
    _, manifest = run.execute(MAKE, SilentProgress())
    assert not manifest.provenance.resumed
    assert set(manifest.outputs) == {"numbers.txt"}


def test_stage_outside_the_recipe_is_marked_and_passed_over(
    tmp_path: Path, toys: list[str]
) -> None:
    run = Run(tmp_path / "run", recipe(tmp_path, "[make]\n[sum]\n"))
    assert run_all(run) == ["done", "not in the recipe", "done"]
    assert (run.directory / "sum" / "total.txt").read_text() == "sum 3"
    assert run_all(run) == ["up to date", "not in the recipe", "up to date"]


def test_run_directory_of_another_recipe_is_refused(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(HEAD.replace("toy", "other") + "[make]\n")
    with pytest.raises(ConfigError, match="belongs to the recipe 'toy', not 'other'"):
        Run(run.directory, load_recipe(other)).claim()


@pytest.mark.parametrize("inner", [".", "run", "deep/run"])
def test_a_file_where_a_run_should_be_is_told(tmp_path: Path, toys: list[str], inner: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    made = Run(tmp_path / "file" / inner, recipe(tmp_path))
    for act in (made.refuse_foreign, made.claim):
        with pytest.raises(ConfigError, match="a file is there, or above it"):
            act()


@pytest.mark.parametrize("change", ["lacked it", "had another"])
def test_a_null_that_another_version_does_not_know_is_no_change(
    run: Run, tmp_path: Path, toys: list[str], change: str
) -> None:
    run_all(run)
    path = run.directory / "make" / "manifest.json"
    manifest = read_manifest(path.parent)
    assert manifest is not None
    payload = json.loads(json.dumps(manifest.payload))
    if change == "lacked it":
        assert payload["config"].pop("source") is None
    else:
        payload["config"]["former"] = None
    earlier = manifest.model_copy(update={"payload": payload, "fingerprint": fingerprint(payload)})
    path.write_text(earlier.sealed_json())
    assert run.statuses()["make"].state is State.FRESH
    assert run_all(run) == ["up to date"] * 3
    other = Run(run.directory, recipe(tmp_path, "[make]\nsize = 4\n[double]\n[sum]\n"))
    status = other.statuses()["make"]
    assert (status.state, status.why) == (State.STALE, "config.size: 3 -> 4")


def test_unreadable_manifest_is_named(run: Run) -> None:
    run_all(run)
    (run.directory / "make" / "manifest.json").write_text("{")
    with pytest.raises(DataError, match=r"make/manifest\.json: not a manifest"):
        run.execute(DOUBLE, SilentProgress())


def test_publish_killed_between_its_renames_is_completed(run: Run) -> None:
    run_all(run)
    made = run.directory / "make"
    os.rename(made, run.directory / "make.partial")
    assert run.execute(MAKE, SilentProgress())[0] is Outcome.UP_TO_DATE
    assert made.exists()
    assert not (run.directory / "make.partial").exists()


def test_second_process_is_told_and_touches_nothing(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                f"""
                import sys, time
                from pathlib import Path
                from pipeline.runs.locks import run_lock
                with run_lock(Path({str(tmp_path)!r}), whole=True):
                    print("held", flush=True)
                    time.sleep(3600)
                """
            ),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for whole in (True, False):
            with (
                pytest.raises(RunLockedError, match=f"process {holder.pid} is working here"),
                run_lock(tmp_path, whole=whole),
            ):
                pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        if holder.stdout:
            holder.stdout.close()
    # A lock dies with its process.
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            with run_lock(tmp_path, whole=True):
                return
        except RunLockedError:
            time.sleep(0.05)
    pytest.fail("the lock outlived its process")


def test_two_stages_may_work_side_by_side(tmp_path: Path) -> None:
    with (
        run_lock(tmp_path, whole=False),
        stage_lock(tmp_path, "judge"),
        run_lock(tmp_path, whole=False),
        stage_lock(tmp_path, "sample"),
    ):
        with pytest.raises(RunLockedError, match="judge"), stage_lock(tmp_path, "judge"):
            pass
        with pytest.raises(RunLockedError), run_lock(tmp_path, whole=True):
            pass


def test_one_who_looks_whether_a_stage_is_held_does_not_refuse_it(tmp_path: Path) -> None:
    with stage_lock(tmp_path, "train"):
        assert is_held(tmp_path, "train")
    with (tmp_path / ".locks" / "train").open() as looks:
        fcntl.flock(looks, fcntl.LOCK_SH)
        threading.Timer(0.2, looks.close).start()
        with stage_lock(tmp_path, "train"):
            assert is_held(tmp_path, "train")


def test_run_record_names_the_recipe(run: Run) -> None:
    assert json.loads((run.directory / "run.json").read_text()) == {"recipe": "toy"}


def test_sum_reads_what_the_recipe_has(run: Run) -> None:
    assert SUM.inputs == ("make", "double")
    run_all(run)
    manifest = read_manifest(run.directory / "sum")
    assert manifest is not None
    assert set(manifest.payload["inputs"]) == {"make", "double"}


# Files of someone's own


@pytest.mark.parametrize("theirs", ["thesis.txt", "ingest/thesis.txt", "make.partial/thesis.txt"])
def test_a_folder_with_files_of_ones_own_is_refused(
    tmp_path: Path, toys: list[str], theirs: str
) -> None:
    file = tmp_path / "project" / theirs
    file.parent.mkdir(parents=True)
    file.write_text("years of work")
    run = Run(tmp_path / "project", recipe(tmp_path))
    with pytest.raises(ConfigError, match="no run of prefline"):
        run.claim()
    assert [p for p in (tmp_path / "project").rglob("*") if p.is_file()] == [file]
    assert toys == []


def test_an_empty_folder_and_one_whose_claim_was_killed_are_taken(
    tmp_path: Path, toys: list[str]
) -> None:
    for name, left in (("empty", None), ("killed", "run.json.writing")):
        (tmp_path / name).mkdir()
        if left:
            (tmp_path / name / left).touch()
        run = Run(tmp_path / name, recipe(tmp_path))
        run.claim()
        assert run_all(run) == ["done"] * 3


@pytest.mark.parametrize("name", ["make", "make.partial", "make.old", "make.partial.copying"])
def test_a_folder_inside_a_run_that_prefline_has_not_made_is_kept(
    run: Run, toys: list[str], name: str
) -> None:
    file = run.directory / name / "thesis.txt"
    file.parent.mkdir()
    file.write_text("years of work")
    with pytest.raises(ConfigError, match=r"has not made it.*thesis\.txt"):
        run_all(run)
    assert file.read_text() == "years of work"


def test_what_a_kill_leaves_of_a_removed_folder_is_still_ours(run: Run, toys: list[str]) -> None:
    run_all(run)
    old = run.directory / "make.old"
    old.mkdir()
    (old / "manifest.json").write_text((run.directory / "make" / "manifest.json").read_text())
    assert run_all(run) == ["up to date"] * 3
    assert not old.exists()


def test_what_a_killed_run_has_said_stands_in_the_manifest_once(tmp_path: Path) -> None:
    record = tmp_path / ".said"
    first = Recorder(SilentProgress(), record)
    first.note("400 rows")
    first.warn("few labels")
    again = Recorder(SilentProgress(), record)
    again.note("400 rows")
    again.note("step 3 is published")
    assert (again.notes, again.warnings) == (["400 rows", "step 3 is published"], ["few labels"])
    whole = record.read_text()
    for damaged in (whole[:20], whole.replace("few labels", "new labels")):
        record.write_text(damaged)
        third = Recorder(SilentProgress(), record)
        assert third.notes == []
        assert third.warnings == ["what was warned of before the interruption is damaged, and lost"]


def test_a_lock_that_is_no_file_is_told_and_what_a_link_leads_to_is_left_alone(
    tmp_path: Path,
) -> None:
    theirs = tmp_path / "thesis"
    theirs.write_text("mine")
    (tmp_path / ".locks").mkdir()
    os.mkfifo(tmp_path / ".locks" / "judge")
    (tmp_path / ".locks" / "train").symlink_to(theirs)
    assert not is_held(tmp_path, "judge")
    with pytest.raises(ConfigError, match="not a plain file"), stage_lock(tmp_path, "judge"):
        pass
    with pytest.raises(OSError, match="symbolic"), stage_lock(tmp_path, "train"):
        pass
    assert theirs.read_text() == "mine"
