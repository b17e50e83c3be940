import shutil
from pathlib import Path

import pytest

from tests.fixtures import toy_stages
from tests.fixtures.command_line import on, prefline


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the real stages by toys; the list tells which of them have run."""
    by_name = {stage.name: stage for stage in toy_stages.TOY_STAGES}
    for module in ("pipeline.recipe", "pipeline.runs.stage_status"):
        monkeypatch.setattr(f"{module}.STAGES", toy_stages.TOY_STAGES)
    monkeypatch.setattr("pipeline.recipe.BY_NAME", by_name)
    monkeypatch.setattr("pipeline.recipe._chain_problems", lambda present, configs: [])
    toy_stages.RUNS.clear()
    return toy_stages.RUNS


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny recipe, made by the command line; not to be changed."""
    run_dir = tmp_path_factory.mktemp("tiny") / "run"
    done = prefline(*on(run_dir, "run"))
    assert done.returncode == 0, done.stderr
    return run_dir


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed at will."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))
