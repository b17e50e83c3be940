"""No text of others can drive the terminal, whichever command prints it."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from pipeline.display.console import Console
from pipeline.display.terminal_text import say, say_json, visible

ROOT = Path(__file__).parents[3]
HOSTILE = "a\x1b]0;title\x07\x1b[2Jb\x9b31mc\x7f\rd\u202ee"
_ESCAPES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def test_what_is_said_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    say(HOSTILE, err=True)
    for said in capsys.readouterr():
        assert said == visible(HOSTILE) + "\n"
        assert not _ESCAPES.search(said)


def test_json_stays_json_and_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"text": HOSTILE + " \U000e0041 \u00e4\u4f60"}
    say_json(json.dumps(value, ensure_ascii=False))
    said = capsys.readouterr().out
    assert json.loads(said) == value
    assert "\u00e4\u4f60" in said
    assert not _ESCAPES.search(said)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_console_shows_what_it_is_given(terminal: bool) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=200, markup=False)
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(Text(HOSTILE, style="bold"))
    console.print(HOSTILE)
    console.print(table)
    said = re.sub("\x1b\\[[0-9;]*m", "", written.getvalue())  # rich's own colours
    assert not _ESCAPES.search(said)
    assert said.count("x1b]0;title") == 4


def test_nothing_else_writes() -> None:
    """A command that echoes past these would be the one that a row can drive."""
    direct = re.compile(r"typer\.echo|\bprint\(.*\)$|rich\.console import .*\bConsole\b")
    allowed = {"cli/main.py", "display/terminal_text.py", "display/console.py"}
    found = [
        f"{path.name}: {line.strip()}"
        for path in (ROOT / "pipeline").rglob("*.py")
        if str(path.relative_to(ROOT / "pipeline")) not in allowed
        for line in path.read_text().splitlines()
        if direct.search(line) and "console.print(" not in line and "Console(" not in line
    ]
    assert found == []
