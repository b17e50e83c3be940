"""What is swept, and what a comma in a setting means."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.recipe import Recipe, load_recipe
from pipeline.sweeps.variant_runs import affected_stages
from schemas.errors import ConfigError
from tests.fixtures.command_line import TINY


def loaded(*settings: str) -> Recipe:
    return load_recipe(TINY, settings)


def points(*settings: str) -> list[dict[str, Any]]:
    return [dict(variant.point.settings) for variant in loaded(*settings).variants]


def test_commas_between_numbers_are_a_sweep() -> None:
    assert points("train.loss.beta=0.05,0.1, 0.5") == [
        {"train.loss.beta": 0.05},
        {"train.loss.beta": 0.1},
        {"train.loss.beta": 0.5},
    ]
    betas = [
        v.recipe.stages["train"].model_dump()["loss"]["beta"]
        for v in loaded("train.loss.beta=0.05,0.5").variants
    ]
    assert betas == [0.05, 0.5]


def test_words_are_values_only_where_there_are_words_to_choose_from() -> None:
    assert len(points("train.loss.kind=sigmoid,ipo")) == 2
    assert len(points("train.training.lr_schedule=linear,cosine")) == 2
    assert points("report.title=before, after") == []
    with pytest.raises(ConfigError, match="several modules are a list"):
        loaded("train.training.lora.target_modules=q_proj,v_proj")


def test_seeds_are_a_sweep_like_any_other() -> None:
    found = loaded("train.seeds=[1,2]", "train.loss.beta=0.1,0.2")
    names = [variant.point.name for variant in found.variants]
    assert names == ["beta-0.1_seed-1", "beta-0.1_seed-2", "beta-0.2_seed-1", "beta-0.2_seed-2"]
    assert "seeds" not in found.stages["train"].model_dump()  # no part of what one is made of
    assert found.variants[0].point.without_seed == {"train.loss.beta": 0.1}


def test_one_value_is_no_sweep() -> None:
    one = loaded("train.seeds=[7]")
    assert one.variants == ()
    assert one.stages["train"].model_dump()["training"]["seed"] == 7


def test_a_sweep_in_the_recipe(tmp_path: Path) -> None:
    text = TINY.read_text()
    for number, section in enumerate(
        ('[sweep]\n"train.loss.beta" = [0.1, 0.2]\n', "[sweep.train.loss]\nbeta = [0.1, 0.2]\n")
    ):
        path = tmp_path / f"{number}.toml"
        path.write_text(f"{text}\n{section}")
        names = [variant.point.name for variant in load_recipe(path).variants]
        assert names == ["beta-0.1", "beta-0.2"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("sweep.train.loss.beta=0.5", "write a list of values"),
        ("sweep.beta=[1,2]", None),
        ("runtime.threads=1,2", "only settings of stages can be swept"),
        ("train.loss.beta=0.1,-1", "train.loss.beta: Input should be greater than 0"),
        ("train.loss.beta=0.1,0.1", "the same value twice"),
    ],
)
def test_what_cannot_be_swept_is_said(setting: str, said: str | None) -> None:
    with pytest.raises(ConfigError, match=said):
        loaded(setting)


def test_what_is_trained_anew_is_what_depends_on_it() -> None:
    of_loss = affected_stages(loaded("train.loss.beta=0.1,0.2"))
    assert of_loss == {"train", "evaluate", "report"}
    of_sampling = affected_stages(loaded("sample.temperature=0.5,1.0"))
    assert of_sampling == {"sample", "label", "train", "evaluate", "report"}
