"""What pip installs: the command, the import, and every file that they read."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("prefline", "pipeline", "stages", "evals", "schemas")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [made] = out.glob("*.whl")
    return made


def test_the_wheel_holds_every_file_of_every_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    files = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files <= held


def test_the_installed_import_and_command_work_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    [script] = re.findall(
        r"prefline = (\S+):(\w+)", next(site.rglob("entry_points.txt")).read_text()
    )
    code = (
        "import prefline as pf, sys; assert pf.__file__.startswith(sys.argv.pop(1)); "
        f"from {script[0]} import {script[1]} as main; sys.argv[0] = 'prefline'; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(site), "--version"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.match(r"prefline \d+\.\d+", done.stdout)


def test_what_is_installed_is_what_was_tested() -> None:
    text = (ROOT / "requirements" / "base.txt").read_text()
    pins: dict[str, str] = dict(re.findall(r"^([\w.-]+)==([^ ;\n]+)", text, re.MULTILINE))
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for requirement in declared:
        name, _, version = requirement.partition("==")
        assert version.endswith(".*"), requirement
        assert pins[name].startswith(version.removesuffix("*")), requirement
