"""What would stop a run in an hour is said before minute 0."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evals.benchmarks.tasks import TASKS
from pipeline.cli import app
from pipeline.preflight import OWN_TASKS, problems
from pipeline.recipe import load_recipe
from tests.fixtures.tiny_models import tiny_llama


def recipe(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "r.toml"
    path.write_text(f'name = "r"\n[[ingest.datasets]]\nkind = "food"\n{text}')
    return path


def test_our_tasks_are_all_known() -> None:
    assert set(OWN_TASKS) == set(TASKS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[ingest.datasets]]\nkind = "jsonl"\npath = "gone.jsonl"\n', "gone.jsonl: no such file"),
        ('[evaluate]\npolicy = {path = "a/b"}\ntasks = ["no_such"]\n', "no_such: no such task"),
        ('[evaluate]\npolicy = {path = "a/b"}\ntasks = ["nopackage/x"]\n', "not installed"),
        (
            '[evaluate]\npolicy = {path = "a/b"}\n[evaluate.truth]\nkind = "llm"\n'
            'server = {base_url = "http://127.0.0.1:9/v1", model = "m", api_key_env = "NO_KEY"}\n',
            "evaluate.truth.server.api_key_env: NO_KEY is not set",
        ),
        (
            '[judge.judge]\nkind = "length"\n[sample]\nmodel = {path = "a/b"}\nn = 1\n[label]\n',
            "sample.n: one completion",
        ),
        (
            '[judge.judge]\nkind = "length"\n[sample]\nmodel = {path = "a/b"}\n'
            "temperature = 0\n[label]\n",
            "sample.temperature: 0",
        ),
    ],
)
def test_each_is_found(tmp_path: Path, text: str, said: str) -> None:
    found = problems(load_recipe(recipe(tmp_path, text)))
    assert len(found) == 1
    assert said in found[0]


def test_a_misspelt_target_module_is_named(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "tiny")
    text = (
        f'[train.model]\npath = "{model}"\n'
        '[train.training.lora]\ntarget_modules = ["q_proj", "v_porj"]\n'
    )
    [found] = problems(load_recipe(recipe(tmp_path, text)))
    assert "has no v_porj; it has" in found
    assert "v_proj" in found


def test_validate_answers_in_json_for_a_bad_recipe_too(tmp_path: Path) -> None:
    path = recipe(tmp_path, '[train]\nmodle = 1\nmodel = {path = "a/b"}\n')
    done = CliRunner().invoke(app, ["validate", "--recipe", str(path), "--json"])
    found = json.loads(done.stdout)
    assert (done.exit_code, found["valid"]) == (2, False)
    assert any("train.modle: unknown key" in problem for problem in found["problems"])
    good = recipe(tmp_path, "")
    said = CliRunner().invoke(app, ["validate", "--recipe", str(good), "--json"])
    assert (said.exit_code, json.loads(said.stdout)["valid"]) == (0, True)
