"""Done means done: what could not be done is tried again, and settings redo what follows them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.named_run import refuse_missing
from pipeline.recipe import load_recipe
from pipeline.runs.run import Outcome, Run
from pipeline.runs.stage_status import State
from schemas.errors import BackendError, MissingInputError
from schemas.manifest import read_manifest
from schemas.stage import SilentProgress, Stage, StageContext
from tests.fixtures import toy_stages
from tests.fixtures.toy_stages import DOUBLE, MAKE, SUM

HEAD = 'name = "toy"\ndescription = "d"\nhardware = "any"\n'


@pytest.fixture
def run(tmp_path: Path, toys: list[str]) -> Run:
    path = tmp_path / "toy.toml"
    path.write_text(HEAD + "[make]\n[double]\n[sum]\n")
    opened = Run(tmp_path / "run", load_recipe(path))
    opened.claim()
    return opened


class Unlucky:
    """A stage of two parts, the second of which only works from the second time on."""

    def __init__(self) -> None:
        self.did: list[str] = []

    def run(self, config: Any, context: StageContext) -> Mapping[str, int]:
        parts = context.output / "parts"
        parts.mkdir(exist_ok=True)
        for name in ("first", "second"):
            if not (parts / name).exists():
                self.did.append(name)
                if name == "second" and self.did.count("second") < 2:
                    context.is_missing("the second part: out of luck")
                else:
                    (parts / name).write_text(name)
        numbers = "\n".join(sorted(path.name for path in parts.iterdir()))
        (context.output / "numbers.txt").write_text(numbers)
        context.discard(parts)
        return {}


def test_what_is_missing_is_done_by_the_same_command(run: Run) -> None:
    luck = Unlucky()
    stage: Stage[Any] = replace(MAKE, run=luck.run)
    outcome, manifest = run.execute(stage, SilentProgress())
    assert (outcome, manifest.missing) == (Outcome.DONE, ["the second part: out of luck"])
    assert set(manifest.outputs) == {"numbers.txt"}
    with pytest.raises(BackendError, match="make: not all of it could be done: the second part"):
        refuse_missing("make", manifest)
    status = run.statuses()["make"]
    assert (status.state, status.why) == (State.INCOMPLETE, "the second part: out of luck")
    outcome, manifest = run.execute(stage, SilentProgress())
    assert (outcome, manifest.missing) == (Outcome.DONE, [])
    refuse_missing("make", manifest)
    assert luck.did == ["first", "second", "second"]
    assert (run.directory / "make" / "numbers.txt").read_text() == "first\nsecond"
    assert sorted(p.name for p in (run.directory / "make").iterdir()) == [
        "manifest.json",
        "numbers.txt",
    ]
    assert run.execute(stage, SilentProgress())[0] is Outcome.UP_TO_DATE
    assert run.statuses()["make"].state is State.FRESH


def test_others_read_what_is_there_of_a_stage_that_lacks_something(run: Run) -> None:
    def lacking(config: Any, context: StageContext) -> Mapping[str, int]:
        (context.output / "numbers.txt").write_text("7")
        context.is_missing("six of seven")
        return {}

    run.execute(replace(MAKE, run=lacking), SilentProgress())
    for stage in (DOUBLE, SUM):
        assert run.execute(stage, SilentProgress())[0] is Outcome.DONE
    assert (run.directory / "sum" / "total.txt").read_text() == "sum 14"


def test_what_tells_of_the_machine_makes_nothing_stale(run: Run, toys: list[str]) -> None:
    seconds = iter("12")

    def timed(config: Any, context: StageContext) -> Mapping[str, int]:
        done = toy_stages.MAKE.run(config, context)
        (context.output / "seconds.txt").write_text(next(seconds))
        return done

    def content(path: Path) -> str | None:
        return "any time" if path.name == "seconds.txt" else None

    stage: Stage[Any] = replace(MAKE, run=timed, content=content)
    run.execute(stage, SilentProgress())
    run.execute(DOUBLE, SilentProgress())
    (run.directory / "make" / "seconds.txt").unlink()
    run.execute(stage, SilentProgress())
    assert (run.directory / "make" / "seconds.txt").read_text() == "2"
    assert run.execute(DOUBLE, SilentProgress())[0] is Outcome.UP_TO_DATE
    assert toys == ["make", "double", "make"]
    manifest = read_manifest(run.directory / "make")
    assert manifest is not None
    assert manifest.outputs["seconds.txt"].content == "any time"


def test_a_stage_that_ends_with_an_error_has_failed(run: Run) -> None:
    def refuse(config: Any, context: StageContext) -> Mapping[str, int]:
        raise BackendError("the server said no;\nstart it")

    with pytest.raises(BackendError):
        run.execute(replace(MAKE, run=refuse), SilentProgress())
    status = run.statuses()["make"]
    assert (status.state, status.why) == (State.FAILED, "the server said no; start it")
    with pytest.raises(MissingInputError, match="not made yet; it failed: the server said no"):
        run.execute(DOUBLE, SilentProgress())
    run.execute(MAKE, SilentProgress())
    assert run.statuses()["make"].state is State.FRESH


def test_a_bug_is_a_failure_and_a_kill_is_none(run: Run) -> None:
    def stumble(config: Any, context: StageContext) -> Mapping[str, int]:
        raise ZeroDivisionError("division by zero")

    def interrupted(config: Any, context: StageContext) -> Mapping[str, int]:
        raise KeyboardInterrupt

    with pytest.raises(ZeroDivisionError):
        run.execute(replace(MAKE, run=stumble), SilentProgress())
    assert run.statuses()["make"].why == "ZeroDivisionError: division by zero (a bug of prefline)"
    with pytest.raises(KeyboardInterrupt):
        run.execute(replace(MAKE, run=interrupted), SilentProgress())
    assert run.statuses()["make"].state is State.PARTIAL


class Pieces:
    """A stage of pieces, each named by what it is made of; it may break off."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.breaks_at: str | None = None

    def run(self, config: Any, context: StageContext) -> Mapping[str, int]:
        pieces = context.output / "pieces"
        pieces.mkdir(exist_ok=True)
        for name in map(str, range(config.size)):
            if name == self.breaks_at:
                raise InterruptedError
            if not (pieces / name).exists():
                self.made.append(name)
                (pieces / name).write_text(name)
        (context.output / "numbers.txt").write_text("\n".join(sorted(self.made)))
        return {}


def test_pieces_of_work_outlive_other_settings_and_kills(run: Run, tmp_path: Path) -> None:
    work = Pieces()
    stage: Stage[Any] = replace(MAKE, run=work.run, reuses="pieces")

    def made(size: int) -> list[str]:
        work.made.clear()
        path = tmp_path / "toy.toml"
        path.write_text(HEAD + f"[make]\nsize = {size}\n")
        Run(run.directory, load_recipe(path)).execute(stage, SilentProgress())
        return list(work.made)

    assert made(2) == ["0", "1"]
    assert made(4) == ["2", "3"], "of the finished stage"
    work.breaks_at = "5"
    with pytest.raises(InterruptedError):
        made(7)
    assert work.made == ["4"]
    work.breaks_at = None
    assert made(6) == ["5"], "of the interrupted one, which had other settings"
    assert made(6) == []
