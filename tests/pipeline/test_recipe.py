from pathlib import Path

import pytest

from pipeline.recipe import load_recipe
from schemas.errors import ConfigError, MissingInputError

HEAD = 'name = "toy"\ndescription = "d"\nhardware = "any"\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "r.toml"
    path.write_text(text)
    return path


def test_all_mistakes_are_reported_at_once(tmp_path: Path, toys: list[str]) -> None:
    path = write(tmp_path, HEAD + "[make]\nsiz = 4\n[double]\nfactor = 'x'\n[dubble]\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    text = str(caught.value)
    assert "3 problems" in text
    assert "make.siz: unknown key; did you mean size?" in text
    assert "double.factor: Input should be a valid integer" in text
    assert "dubble: unknown; did you mean double?" in text


def test_one_mistake_is_one_line(tmp_path: Path, toys: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(write(tmp_path, HEAD + "[make]\nsize = nan\n"))
    assert "\n" not in str(caught.value)
    assert "make.size" in str(caught.value)


def test_a_name_is_all_that_a_recipe_must_say_of_itself(tmp_path: Path, toys: list[str]) -> None:
    with pytest.raises(ConfigError, match="name: missing"):
        load_recipe(write(tmp_path, 'description = "d"\n[make]\n'))
    loaded = load_recipe(write(tmp_path, 'name = "toy"\n[make]\n'))
    assert (loaded.name, loaded.description, loaded.hardware) == ("toy", "", "")


def test_null_is_none_in_toml_and_by_set(tmp_path: Path, toys: list[str]) -> None:
    path = write(tmp_path, HEAD + '[runtime]\ncache_dir = "null"\nthreads = 3\n[make]\n')
    recipe = load_recipe(path, ["runtime.threads=null"])
    assert (recipe.runtime.cache_dir, recipe.runtime.threads) == (None, None)


def test_sections_and_lists_by_set(tmp_path: Path, toys: list[str]) -> None:
    path = write(tmp_path, HEAD + "[make]\n")
    recipe = load_recipe(path, ["make={size = 5}", 'runtime.reporters=["wandb"]'])
    assert recipe.stages["make"].model_dump()["size"] == 5
    assert recipe.runtime.reporters == ("wandb",)
    assert load_recipe(path, ['make={"size": 6}']).stages["make"].model_dump()["size"] == 6


def test_overrides_take_toml_values_and_plain_words(tmp_path: Path, toys: list[str]) -> None:
    path = write(tmp_path, HEAD + "[make]\n[sum]\n")
    recipe = load_recipe(path, ["make.size=7", "sum.title=total of all", "runtime.device=cpu"])
    assert recipe.stages["make"].model_dump()["size"] == 7
    assert recipe.stages["sum"].model_dump()["title"] == "total of all"
    assert recipe.runtime.device == "cpu"


@pytest.mark.parametrize("override", ["make", "size=3", "make.size"])
def test_malformed_override_is_explained(tmp_path: Path, toys: list[str], override: str) -> None:
    with pytest.raises(ConfigError, match=r"write section\.key=value"):
        load_recipe(write(tmp_path, HEAD + "[make]\n"), [override])


def test_missing_recipe_lists_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"the shipped ones are .*food"):
        load_recipe(tmp_path / "nowhere.toml")


def test_not_toml_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not TOML: .*line 1"):
        load_recipe(write(tmp_path, "name = = 3"))


def test_a_section_has_the_kind_that_is_its_default(tmp_path: Path) -> None:
    path = write(tmp_path, 'name = "r"\n[[ingest.datasets]]\nkind = "food"\n[train]\n')
    recipe = load_recipe(path, ['train.model={path = "a/b"}', "train.loss.beta=0.3"])
    loss = recipe.stages["train"].model_dump()["loss"]
    assert (loss["kind"], loss["beta"]) == ("sigmoid", 0.3)
    with pytest.raises(ConfigError, match=r"evaluate\.truth: kind is missing"):
        load_recipe(path, ['train.model={path = "a/b"}', "evaluate.truth={}"])
