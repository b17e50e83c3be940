"""The world that evaluations of these tests are made in."""

import json
from pathlib import Path

import pytest

from stages.evaluate import run
from tests.fixtures.scripted_evaluation import PEOPLE, World, always, any_food, write_prompts


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for stage in ("sft", "train"):
        folder = tmp_path / "runs" / stage / "model"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"made_by": stage}))
    write_prompts(tmp_path / "runs" / "ingest" / "prompts.parquet", PEOPLE)
    made = World(tmp_path, {"policy": always("pizza"), "baseline": any_food})
    monkeypatch.setattr(run, "open_sampler", made.open_sampler)
    return made
