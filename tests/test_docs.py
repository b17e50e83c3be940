"""The README is part of the product: what it says has to be so."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from pipeline.cli import app

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
RECIPES = sorted((ROOT / "pipeline" / "recipes").glob("*.toml"))


def code_lines() -> list[str]:
    """The command lines of the README's indented and fenced blocks."""
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", README, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.partition(" #")[0].strip() for line in lines if line.strip()]


def tree_section() -> str:
    found = re.search(r"## Where things are\n(.*?)\n## ", README, re.DOTALL)
    assert found is not None
    return found[1]


def test_every_module_has_its_line_in_the_tree() -> None:
    listed = set(re.findall(r"`([a-z_/]+\.py)`", tree_section()))
    there = {
        str(path.relative_to(ROOT))
        for package in ("pipeline", "stages", "evals", "schemas")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py" or len(path.read_text().splitlines()) > 3
    }
    assert listed == there


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_and_stands_in_the_readme(name: str) -> None:
    summary = (COMMANDS[name].help or "").strip().splitlines()[0]
    assert summary
    assert f"| `{name}` | {summary} |" in README


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


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_stands_in_the_readme(recipe: Path) -> None:
    assert f"| `{recipe.stem}` |" in README


def test_links_inside_the_repository_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
