"""The settings in the help and in the reference."""

from typing import Any

import pytest

from pipeline.settings.flat import own_keys
from pipeline.settings.help_text import setting_lines, show_settings
from pipeline.stage_registry import BY_NAME, STAGES
from schemas.stage import Stage

WIDTH = 80
ROWS = 36
"""With the options above, a help page stays within what a screen shows."""


def test_settings_shared_by_kinds_are_said_once() -> None:
    lines = list(setting_lines(BY_NAME["ingest"].config))
    assert any("datasets.kind, required (food | instructions | hh |" in line for line in lines)
    assert sum(line.startswith("datasets.hub_id ") for line in lines) == 1
    [path] = [line for line in lines if line.startswith("datasets.path ")]
    assert path.endswith("(not food, instructions)")


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_the_settings_of_a_stage_fit_a_screen(
    stage: Stage[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    show_settings(stage)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= ROWS
    assert max(map(len, lines)) <= WIDTH
    for name in own_keys(stage.config):
        assert any(line.startswith(f" {name}") for line in lines), name
