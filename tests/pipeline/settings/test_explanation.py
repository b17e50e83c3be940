"""What `prefline explain` says follows from the types, and holds."""

import json
import tomllib
from collections.abc import Iterator
from types import NoneType
from typing import Any, get_args

import pytest
from pydantic import create_model
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.recipe import with_overrides
from pipeline.settings.catalogue import SECTIONS, Setting, settings_of
from pipeline.settings.explanation import explain
from pipeline.settings.legal import legal_words
from schemas.errors import ConfigError


def everything() -> Iterator[tuple[str, Setting]]:
    for name, model in SECTIONS.items():
        for one in settings_of(model):
            yield name, one


def taken(one: Setting, value: Any) -> bool:
    """Whether a setting takes a value; raises what pydantic says where it does not."""
    annotation: Any = one.field.annotation
    model = create_model("One", value=(annotation, one.field))
    return "value" in model(value=value).model_fields_set


def test_what_documents_null_can_be_null() -> None:
    for section, one in everything():
        says_null = "null" in one.meaning.split(";")[-1] and not one.members
        if says_null and one.key.rpartition(".")[2] != "kind":
            assert one.legal.endswith("or null"), f"{section}.{one.key}"


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("train", "training.save_every"),
        ("train", "training.lora"),
        ("judge", "max_card_comparisons"),
        ("evaluate", "truth"),
    ],
)
def test_null_is_taken_where_the_legal_values_have_it(section: str, key: str) -> None:
    [one] = [s for s in settings_of(SECTIONS[section]) if s.key == key]
    assert one.legal.endswith("or null")
    assert NoneType in get_args(one.field.annotation)


def test_words_to_choose_from_are_those_of_the_type() -> None:
    for section, one in everything():
        for word in one.legal.partition(";")[0].split(" | ") if " | " in one.legal else ():
            if one.key.rpartition(".")[2] == "kind":
                continue
            words: Any = word if "list of" not in one.legal else [word.removeprefix("list of ")]
            assert taken(one, words), f"{section}.{one.key}"


def test_every_example_is_toml_and_a_legal_value() -> None:
    for section, one in everything():
        found = explain(f"{section}.{one.key}")
        assert set(tomllib.loads(found.toml)) == {section}
        if not (one.members or one.key.rpartition(".")[2] == "kind" or "..." in found.toml):
            written = tomllib.loads(found.toml.splitlines()[-1])
            assert taken(found.settings[0], *written.values())


def test_the_option_says_the_same_as_the_recipe() -> None:
    found = explain("train.training.learning_rate")
    assert found.override.startswith("--set train.training.learning_rate=")
    assert with_overrides({}, [found.override.removeprefix("--set ")]) == tomllib.loads(found.toml)
    in_list = explain("ingest.datasets.0.path")
    assert in_list.key == "ingest.datasets.path"
    assert in_list.override == "--set ingest.datasets.0.path=..."


def test_bounds_are_said() -> None:
    [one] = [s for s in settings_of(SECTIONS["sample"]) if s.key == "top_p"]
    assert one.legal == "number, above 0, at most 1"
    assert legal_words(int | None) == "whole number; or null"


@pytest.mark.parametrize("key", ["beta", "train.loss.betta", "trian"])
def test_a_misspelt_setting_is_a_hint(key: str) -> None:
    with pytest.raises(ConfigError, match=r"did you mean .*train"):
        explain(key)


def test_the_command_tells_what_kinds_differ_in() -> None:
    said = CliRunner().invoke(app, ["explain", "train.loss.beta"]).stdout
    assert "0.1 (sigmoid, ipo" in " ".join(said.split())
    assert "--set train.loss.beta=" in said
    loss = " ".join(CliRunner().invoke(app, ["explain", "train.loss"]).stdout.split())
    assert "kind sigmoid" in loss
    assert "ORPO: likelihood of chosen" in loss
    found = json.loads(CliRunner().invoke(app, ["explain", "sample.n", "--json"]).stdout)
    assert found["declared"][0]["default"] == "4"
    assert found["declared"][0]["legal"] == "whole number, at least 1"
