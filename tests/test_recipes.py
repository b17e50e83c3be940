"""Every recipe that is shipped is sound, and opens with its command and its hardware."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.recipe import load_recipe

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
