"""The next training starts where another run's ended."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.from_run import start_from
from pipeline.recipe import load_recipe
from schemas.errors import ConfigError, MissingInputError
from schemas.files import write_json
from tests.fixtures.command_line import TINY

PROVENANCE: dict[str, Any] = {
    **dict.fromkeys(("started_at", "finished_at", "python"), ""),
    **dict.fromkeys(("wall_seconds", "cpu_seconds", "peak_rss_bytes"), 0),
    **{"commit": None, "dirty": None, "command": [], "packages": {}, "hardware": {}},
}


def trained(folder: Path) -> Path:
    (folder / "train" / "model").mkdir(parents=True)
    manifest = {"stage": "train", "fingerprint": "f", "payload": {}, "provenance": PROVENANCE}
    write_json(folder / "train" / "manifest.json", manifest)
    return folder / "train" / "model"


def test_a_recipe_starts_from_the_policy_of_the_last_round(tmp_path: Path) -> None:
    trained(tmp_path)
    assert "round-10" not in str(start_from(tmp_path, None, TINY))
    trained(tmp_path / "round-2")
    last = trained(tmp_path / "round-10")
    recipe = load_recipe(TINY, start_from(tmp_path, None, TINY))
    assert "sft" not in recipe.stages
    for stage in ("train", "sample"):
        assert recipe.stages[stage].model_dump()["model"]["path"] == str(last)


def test_what_it_cannot_start_from_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no training is finished there"):
        start_from(tmp_path, None, TINY)
    with pytest.raises(ConfigError, match="is this run itself"):
        start_from(tmp_path, tmp_path, TINY)
