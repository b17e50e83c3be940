"""README and docs/ are part of the product: what they say has to be so."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from pipeline.cli import app
from tests.fixtures import generated_docs

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


def code_lines() -> list[str]:
    """The command lines of the README's indented and fenced blocks."""
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", README, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.partition(" #")[0].strip() for line in lines if line.strip()]


PAGES = [str(page.relative_to(ROOT)) for page in generated_docs.pages()]


@pytest.mark.parametrize("page", PAGES)
def test_generated_blocks_are_up_to_date(page: str) -> None:
    text = (ROOT / page).read_text()
    assert text == generated_docs.written(text), "run `make docs`"


@pytest.mark.parametrize("name", sorted(generated_docs.BLOCKS))
def test_every_generated_block_stands_somewhere(name: str) -> None:
    assert any(f"<!-- {name} -->" in (ROOT / page).read_text() for page in PAGES)


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= 18_500


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str) -> None:
    assert (COMMANDS[name].help or "").strip()


def test_every_make_target_named_in_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    targets |= set(re.search(r"^STAGES := (.*)$", makefile, re.MULTILINE)[1].split())  # type: ignore[index]
    for line in code_lines():
        words = shlex.split(line)
        if words[0] == "make":
            named = [w for w in words[1:] if "=" not in w and not w.startswith("-")]
            assert set(named) <= targets, line


def test_every_prefline_command_in_the_readme_is_accepted() -> None:
    seen = 0
    for line in code_lines():
        words = shlex.split(line)
        if words[0] != "prefline":
            continue
        seen += 1
        command = COMMANDS[words[1]]
        options = {name for parameter in command.params for name in parameter.opts}
        assert {w.partition("=")[0] for w in words[2:] if w.startswith("--")} <= options, line
    assert seen >= 5


@pytest.mark.parametrize("page", PAGES)
def test_links_inside_the_repository_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target
