"""Every recipe that is shipped is sound, and opens with its command and its hardware."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.recipe import load_recipe
from tests.fixtures.published_recipes import NAMES, flattened, our_settings, published
from tests.fixtures.published_recipes import RECIPES as PUBLISHED

RECIPES = sorted((Path(__file__).resolve().parent.parent / "pipeline" / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_is_valid_and_says_how_to_run_it(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    first, second = path.read_text().splitlines()[:2]
    assert first.startswith("# make ")
    assert path.stem in first or path.stem == "food"
    assert second.startswith("# hardware: ")
    assert {"ingest", "train", "evaluate", "report"} <= set(recipe.stages)


def test_recipes_cover_the_three_data_sets() -> None:
    texts = [path.read_text() for path in RECIPES]
    for kind in ("hh", "helpsteer3", "ultrafeedback"):
        assert any(f'kind = "{kind}"' in text for text in texts)


def test_recipes_name_models_of_today_and_a_judge_of_another_family() -> None:
    recipes = {path.stem: load_recipe(path) for path in RECIPES}
    families = ("Qwen3", "SmolLM3", "OLMo", "gemma-3", "Llama-3.2")
    judged = [r for r in recipes.values() if {"sample", "label"} <= set(r.stages)]
    on_policy: dict[str, Any] = {}
    for recipe in judged:
        stages: Any = recipe.stages
        if stages["judge"].judge.kind == "llm":
            assert stages["sample"].model == stages["train"].model, recipe.name
            on_policy[stages["sample"].model.path] = stages["judge"].judge.model.path
    for family in families:
        assert any(family in policy for policy in on_policy), family
    for policy, judge in on_policy.items():
        assert policy.partition("/")[0] != judge.partition("/")[0], policy
    thinks = {
        name: recipes[f"qwen3-{name}"].stages["sample"].model.chat_template_kwargs  # type: ignore[attr-defined]
        for name in ("plain", "thinking")
    }
    assert thinks == {"plain": {"enable_thinking": False}, "thinking": {"enable_thinking": True}}


def test_every_published_recipe_has_its_settings_upstream() -> None:
    assert sorted(path.stem for path in PUBLISHED.glob("*.toml")) == NAMES
    assert len(NAMES) == 7


@pytest.mark.parametrize("name", NAMES)
def test_published_settings_are_mapped_or_said_to_have_no_counterpart(name: str) -> None:
    upstream, ours = published(name), our_settings(name)
    assert re.fullmatch("[0-9a-f]{40}", upstream.commit)
    keys = [setting.key for setting in upstream.settings]
    assert len(set(keys)) == len(keys)
    for setting in upstream.settings:
        if setting.ours is None:
            assert setting.why, f"{setting.key}: neither mapped, nor said what follows"
            continue
        assert setting.ours in ours, f"{setting.key}: no such setting as {setting.ours}"
        assert ours[setting.ours] == setting.expected, setting.key
        assert setting.expected == setting.value or setting.why, (
            f"{setting.key}: say why it differs"
        )


@pytest.mark.parametrize("name", NAMES)
def test_published_recipes_say_nothing_of_training_that_upstream_does_not(name: str) -> None:
    """Every setting of [train] that is written is an upstream one, or says why it is there."""
    upstream = published(name)
    known = {setting.ours for setting in upstream.settings} | set(upstream.alone)
    written: dict[str, Any] = {}
    tree = tomllib.loads((PUBLISHED / f"{name}.toml").read_text())
    flattened("train", tree["train"], written)
    leaves = {key for key, value in written.items() if not isinstance(value, dict)}
    assert leaves - known <= {"train.loss.kind"}  # DPO is what upstream's script is for
    assert set(upstream.alone) <= leaves


@pytest.mark.parametrize("name", NAMES)
def test_published_recipes_pass_validate_offline(name: str) -> None:
    result = CliRunner().invoke(app, ["validate", "--recipe", f"published/{name}"])
    assert result.exit_code == 0, result.output
    assert "valid; stages: ingest, train, evaluate, report" in result.output
    first, second = (PUBLISHED / f"{name}.toml").read_text().splitlines()[:2]
    assert first == f"# make RUN=published/{name} report"
    assert second.startswith("# hardware: ")
    assert load_recipe(PUBLISHED / f"{name}.toml").name == name
