from pathlib import Path

import pytest

from tests.fixtures.finished_runs import FakeRun, finished_run


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    return finished_run(tmp_path / "run")
