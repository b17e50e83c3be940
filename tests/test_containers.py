"""What installs prefline elsewhere: the image, from its own files alone, and the job script."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.stage_registry import STAGES

ROOT = Path(__file__).resolve().parent.parent


def instructions(stage: str) -> list[tuple[str, str]]:
    """(instruction, arguments) of one stage of the Dockerfile and the stages it builds on."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    parts: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    name = ""
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            parts[name] = (base, [])
        else:
            parts[name][1].append((word, rest))
    base, own = parts[stage]
    return [*(instructions(base) if base in parts else []), *own]


@pytest.mark.parametrize("stage", ["cpu", "cuda"])
def test_an_image_holds_what_the_package_needs(stage: str) -> None:
    copied = {rest.split()[0] for word, rest in instructions(stage) if word == "COPY"}
    copied |= set(" ".join(rest for word, rest in instructions(stage) if word == "COPY").split())
    packages = re.search(r"^packages = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.M)
    assert packages is not None
    assert set(re.findall(r'"([^"]+)"', packages[1])) <= copied
    assert {"Makefile", "pyproject.toml", "README.md", "LICENSE", "requirements"} <= copied


def test_the_image_is_built_of_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for stage in ("cpu", "cuda"):
        for word, rest in instructions(stage):
            for command in rest.split("&&") if word == "RUN" else []:
                words = [w for w in shlex.split(command) if "=" not in w]
                if words[0] == "make":
                    assert set(words[1:]) <= targets


@pytest.mark.slow
def test_the_copied_files_alone_run_the_command(tmp_path: Path) -> None:
    """The CPU stage's files in an empty folder; its installation is this environment's own."""
    for word, rest in instructions("cpu"):
        if word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                goal = tmp_path / target / (source if target == "./" else "")
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, tmp_path / target, dirs_exist_ok=True)
                else:
                    goal.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / source, goal)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    python = shutil.which("python3", path=str(ROOT / ".venv" / "bin")) or "python3"
    command = [python, "-m", "pipeline", "ingest", "--recipe", "food", "--run-dir", "runs/food"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/food/ingest/manifest.json").exists()


def test_the_job_script_calls_every_stage_as_it_is_called() -> None:
    script = ROOT / "docs" / "examples" / "slurm.sh"
    done = subprocess.run(
        ["bash", str(script), "R.toml", "runs/r"],
        env={"PATH": os.environ["PATH"], "DRY_RUN": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    called = {stage.name: line for stage in STAGES for line in lines if stage.name in line}
    assert [stage for stage in called] == [stage.name for stage in STAGES]
    trained = {name for name, line in called.items() if "torchrun" in line}
    assert trained == {"sft", "judge", "train"}
    for line in called.values():
        assert line[line.index("--recipe") + 1] == "R.toml"
        assert line[line.index("--run-dir") + 1] == "runs/r"
