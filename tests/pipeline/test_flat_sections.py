"""The judge's own keys stand in [judge] itself; what earlier versions wrote is read and noted."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.recipe import Recipe, load_recipe
from pipeline.settings.catalogue import settings_of
from pipeline.settings.explanation import explain
from pipeline.settings.flat import own_keys
from pipeline.settings.kinds import fields_of, kinds_of
from schemas.errors import ConfigError
from stages.judge.config import JudgeConfig

HEAD = 'name = "r"\n[judge]\nmax_card_comparisons = 9\n'
NOW = 'kind = "llm"\nrubric = "helpfulness"\n[judge.server]\nbase_url = "http://127.0.0.1:1/v1"\n'
BEFORE = "[judge.judge]\n" + NOW.replace("[judge.", "[judge.judge.")
MODEL = 'model = "m"\n'
REST = '[sample]\noutputs = ["x"]\n[label]\n'


def load(folder: Path, text: str, *overrides: str) -> Recipe:
    path = folder / "r.toml"
    path.write_text(HEAD + text + MODEL + REST)
    return load_recipe(path, overrides)


def judge(recipe: Recipe) -> dict[str, Any]:
    config = recipe.stages["judge"]
    assert isinstance(config, JudgeConfig)
    return {"card": config.max_card_comparisons} | config.judge.model_dump(exclude_defaults=True)


def test_both_shapes_say_the_same_and_the_old_one_is_noted(tmp_path: Path) -> None:
    now, before = load(tmp_path, NOW), load(tmp_path, BEFORE)
    assert now.stages == before.stages
    assert judge(now)["rubric"] == "helpfulness"
    assert judge(now)["card"] == 9
    assert now.notes == ()
    (note,) = before.notes
    assert note.startswith("[judge.judge]: its keys stand in [judge] itself now")


@pytest.mark.parametrize("text", [NOW, BEFORE])
@pytest.mark.parametrize("path", ["judge", "judge.judge"])
def test_overrides_reach_either_shape(tmp_path: Path, text: str, path: str) -> None:
    changed = load(tmp_path, text, f"{path}.server.model=other", f"{path}.rubric=harmlessness")
    assert judge(changed)["server"]["model"] == "other"
    assert judge(changed)["rubric"] == "harmlessness"
    assert (
        judge(load(tmp_path, text, f"{path}.rubric=a.md", "judge.rubric=b.md"))["rubric"] == "b.md"
    )
    noted = [note for note in changed.notes if note.startswith("--set")]
    assert noted == (
        []
        if path == "judge"
        else [
            "--set judge.judge.server.model: is judge.server.model now",
            "--set judge.judge.rubric: is judge.rubric now",
        ]
    )


@pytest.mark.parametrize("text", [NOW, BEFORE])
def test_a_whole_judge_by_set_leaves_the_other_keys(tmp_path: Path, text: str) -> None:
    whole = load(tmp_path, text, 'judge.judge={kind="rule"}')
    assert judge(whole) == {"card": 9}
    assert judge(load(tmp_path, text, 'judge={kind="rule"}')) == {"card": 2000}
    nested = load(tmp_path, text, 'judge={judge={kind="rule"}}', "judge.max_card_comparisons=3")
    assert judge(nested) == {"card": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('kind = "llm"\nrubrik = "x"\n', "judge.rubrik: unknown key; did you mean rubric?"),
        ('kind = "rule"\nmax_unscord = 1\n', "did you mean max_unscored?"),
        ('kind = "rulle"\n', "judge: unknown kind 'rulle': one of 'rule'"),
        ("min_agreement = 0.5\n", "judge: kind is missing: one of rule, length"),
        ('kind = "rule"\nrule = "fod"\n', "judge.rule: Input should be 'food'"),
        ('[judge.judge]\nkind = "rule"\nrule = "fod"\n', "judge.rule: Input should be 'food'"),
        ('kind = "preference_model"\n', "judge: judge.model: name the preference_model"),
    ],
)
def test_mistakes_are_told_as_they_are_written(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text('name = "r"\n[judge]\n' + text + REST)
    with pytest.raises(ConfigError) as raised:
        load_recipe(path)
    assert said in str(raised.value)
    assert "judge.judge" not in str(raised.value)


def test_no_judge_has_a_key_of_the_section() -> None:
    kinds = kinds_of(JudgeConfig.model_fields["judge"].annotation)
    assert len(kinds) == 6
    for kind in kinds.values():
        assert set(own_keys(JudgeConfig)).isdisjoint(fields_of(kind))


def test_settings_are_listed_and_explained_flat() -> None:
    keys = [one.key for one in settings_of(JudgeConfig)]
    assert {"kind", "rubric", "server.model", "members.kind", "training.lora.rank"} <= set(keys)
    assert not any(key.split(".")[0] == "judge" for key in keys)
    assert explain("judge.judge.rubric") == explain("judge.rubric")
    assert explain("judge.server.model").override.startswith("--set judge.server.model=")
