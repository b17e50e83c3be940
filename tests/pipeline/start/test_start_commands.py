"""init, train-pairs and benchmark: from what a person has to a recipe, an adapter, a score."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.recipe import load_recipe
from schemas.errors import ConfigError, MissingInputError
from tests.fixtures.tiny_models import tiny_llama

ROWS = [
    {"prompt": f"What goes with number {i}?", "chosen": f"Rice and {i}", "rejected": f"Sand {i}"}
    for i in range(40)
]


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def typed(*words: Any) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    return done.stdout


def test_init_writes_a_commented_recipe_that_validates(pairs: Path) -> None:
    typed("init", "--data", "pairs.jsonl", "--model", "some/model", "--judge", "length")
    recipe = load_recipe(Path("recipe.toml"))
    assert recipe.name == "pairs"
    assert set(recipe.stages) == {"ingest", "judge", "train", "evaluate", "report"}
    assert recipe.stages["train"].model_dump()["training"]["lora"]["rank"] == 32
    text = Path("recipe.toml").read_text()
    assert text.count("#") >= 6
    with pytest.raises(ConfigError, match=r"recipe.toml: exists"):
        typed("init", "--data", "pairs.jsonl", "--model", "m", "--judge", "length")


def test_init_says_what_is_missing_where_nobody_can_be_asked(pairs: Path) -> None:
    with pytest.raises(ConfigError, match="init: give --model"):
        typed("init", "--data", "pairs.jsonl", "--judge", "length")
    with pytest.raises(MissingInputError, match=r"gone.jsonl: no such file or folder.*hh"):
        typed("init", "--data", "gone.jsonl", "--model", "m", "--judge", "length")


@pytest.mark.parametrize("word", ["hh", "helpsteer3", "ultrafeedback"])
def test_published_data_goes_by_a_word(pairs: Path, word: str) -> None:
    typed("init", "--data", word, "--model", "some/model", "--judge", "length")
    [dataset] = load_recipe(Path("recipe.toml")).stages["ingest"].model_dump()["datasets"]
    assert dataset["kind"] == word
    assert dataset["hub_id"]


def test_pairs_become_an_adapter_and_a_page_which_is_benchmarked(pairs: Path) -> None:
    model = tiny_llama(pairs.parent / "tiny", [row["prompt"] for row in ROWS])
    found = json.loads(
        typed(
            "train-pairs", pairs, "--model", model, "--chat-template", "role_colon", "-d", "run",
            "--lora-rank", 2, "--beta", 0.2, "--set", "evaluate.max_tokens=4",
            "--set", "train.training.num_epochs=1", "--json",
        )
    )  # fmt: skip
    assert (Path(found["adapter"]) / "adapter_config.json").is_file()
    assert Path("run/report/index.html").is_file()
    kept = load_recipe(Path("run/recipe.toml")).stages["train"].model_dump()
    assert (kept["loss"]["beta"], kept["training"]["lora"]["rank"]) == (0.2, 2)
    task = pairs.parent / "my_tasks.py"
    task.write_text(
        "from inspect_ai import Task, task\n"
        "from inspect_ai.dataset import Sample\n"
        "from inspect_ai.scorer import includes\n"
        "@task\n"
        "def mine():\n"
        "    return Task(dataset=[Sample(input='a', target='')], scorer=includes())\n"
    )
    scores = json.loads(
        typed(
            "benchmark", f"{model}+{found['adapter']}", "--tasks", "my_tasks.py@mine",
            "--max-tokens", 4, "--chat-template", "role_colon", "--json",
        )
    )  # fmt: skip
    assert {entry["value"] for entry in scores["tasks"] if entry["metric"] == "accuracy"} == {1.0}
    with pytest.raises(ConfigError, match="nothing_like_it"):
        typed("benchmark", model, "--tasks", "nothing_like_it", "--chat-template", "role_colon")
