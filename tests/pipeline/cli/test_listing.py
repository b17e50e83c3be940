"""The listing of commands: it says what the commands themselves say, and loads none of them."""

import subprocess
import sys

import pytest
from typer.main import get_command

from pipeline.cli import app
from pipeline.cli.listing import COMMANDS, Listed
from pipeline.stage_registry import STAGES


def test_stages_are_listed_in_their_order_and_words() -> None:
    listed = [(one.name, one.summary) for one in COMMANDS if one.is_stage]
    assert listed == [(stage.name, stage.summary) for stage in STAGES]


@pytest.mark.parametrize("listed", COMMANDS, ids=lambda one: one.name)
def test_a_command_says_of_itself_what_the_listing_says(listed: Listed) -> None:
    command = get_command(app).commands[listed.name]  # type: ignore[attr-defined]
    said = (command.loaded().help or "").strip().splitlines()[0]
    assert said == listed.summary


def test_help_and_version_load_no_command() -> None:
    code = (
        "import sys, pipeline.cli as c\n"
        "try: c.app([sys.argv[1]], standalone_mode=False)\n"
        "except SystemExit: pass\n"
        "print([m for m in sys.modules if m.startswith(('pipeline.commands', 'stages', 'evals'))\n"
        "       or m in ('pydantic', 'pyarrow', 'numpy')])"
    )
    for option in ("--help", "--version"):
        done = subprocess.run(
            [sys.executable, "-c", code, option], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]", option
