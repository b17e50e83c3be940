"""Every recipe that is shipped is sound, and opens with its command and its hardware."""

from pathlib import Path

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
