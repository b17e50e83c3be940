"""What is shown moves by time and by what is under way, whatever the shard."""

import io
import json
import time
from pathlib import Path

import pytest

from evals.pulse import beat
from pipeline.display import progress
from pipeline.display.console import Console
from pipeline.display.progress import LiveProgress, PlainProgress
from pipeline.runs.progress_file import WatchedProgress, how_far
from schemas.stage import SilentProgress
from tests.fixtures.patience import PATIENCE


def test_lines_come_without_a_shard_being_finished(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_TICK_SECONDS", 0.01)
    monkeypatch.setattr(progress, "_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 0.02)
    said = ""
    with PlainProgress().task("sampling", 64, "completions"):
        beat(16)
        until = time.monotonic() + PATIENCE
        while said.count("sampling: 16/64 completions") < 2 and time.monotonic() < until:
            time.sleep(0.01)
            said += capsys.readouterr().err
    assert said.count("sampling: 16/64 completions") >= 2
    assert "left" in said


def test_the_bar_shows_what_is_under_way() -> None:
    said = io.StringIO()
    console = Console(file=said, force_terminal=True, width=120)
    with LiveProgress(console).task("sampling", 64, "completions"):
        time.sleep(0.02)
        beat(16)
    assert "16/64" in said.getvalue()
    assert "left" in said.getvalue()


def test_status_knows_what_the_bar_knows(tmp_path: Path) -> None:
    path = tmp_path / "sample.json"
    with WatchedProgress(SilentProgress(), path).task("sampling", 64, "completions") as task:
        time.sleep(0.02)
        beat(16)
    found = json.loads(path.read_text())
    assert (found["done"], found["kept"]) == (16, 0)
    words = how_far(path)
    assert words.startswith("sampling: 16/64 completions, ")
    assert "/s, " in words
    assert words.endswith(" left")
    del task
