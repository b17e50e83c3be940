import pytest

from tests.fixtures import toy_stages


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the real stages by toys; the list tells which of them have run."""
    by_name = {stage.name: stage for stage in toy_stages.TOY_STAGES}
    for module in ("pipeline.recipe", "pipeline.runs"):
        monkeypatch.setattr(f"{module}.STAGES", toy_stages.TOY_STAGES)
    monkeypatch.setattr("pipeline.recipe.BY_NAME", by_name)
    monkeypatch.setattr("pipeline.recipe._chain_problems", lambda present, configs: [])
    toy_stages.RUNS.clear()
    return toy_stages.RUNS
