"""The bill before the run: a line a stage, and what to change where it does not fit."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import memory, preflight
from pipeline.cli import app
from pipeline.commands.options import RECIPES
from pipeline.memory import Machine, bills
from pipeline.recipe import load_recipe
from tests.fixtures.tiny_models import tiny_llama


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    model = tiny_llama(tmp_path / "tiny", context=512)
    path = tmp_path / "r.toml"
    path.write_text(
        'name = "r"\n[[ingest.datasets]]\nkind = "food"\n'
        f'[sample]\nmodel = {{path = "{model}"}}\nmax_tokens = 12\n'
        '[judge.judge]\nkind = "length"\n'
        f'[train]\nmodel = {{path = "{model}"}}\n[train.training]\nmax_length = 200\n'
    )
    return path


def test_a_line_for_every_stage_that_loads_a_model(recipe: Path) -> None:
    found = {one.stage: one for one in bills(load_recipe(recipe), Machine("cpu", 10**9))}
    assert list(found) == ["sample", "train"]
    [line] = found["train"].lines()
    assert line.startswith("train: 0.0")
    assert "weights" in line
    assert "activations" in line
    assert "items up to 399" in line
    assert found["train"].fits is True


def test_what_does_not_fit_says_which_setting_to_change(recipe: Path) -> None:
    total = next(b for b in bills(load_recipe(recipe), Machine("cpu", 1)) if b.stage == "train")
    assert total.bill is not None
    room = total.bill.cheaper["gradient_checkpointing = true"]
    assert room < total.bill.total
    [tight] = [b for b in bills(load_recipe(recipe), Machine("cpu", room)) if b.stage == "train"]
    _, said = tight.lines()
    assert "does not fit" in said
    assert "with train.training.gradient_checkpointing = true it takes" in said
    assert tight.as_json()["change"] == "gradient_checkpointing = true"


def test_a_limit_of_a_pass_is_in_the_line_and_what_it_refuses_in_another(recipe: Path) -> None:
    def line(gb: str) -> list[str]:
        limited = recipe.read_text().replace("max_length = 200", f"max_length = 200\n{gb}")
        (recipe.parent / "limited.toml").write_text(limited)
        found = bills(load_recipe(recipe.parent / "limited.toml"), Machine("cpu", 10**9))
        [train] = [one for one in found if one.stage == "train"]
        assert train.as_json()["refusal"] == (train.bill.refusal if train.bill else None)
        return list(train.lines())

    [plain] = line("")
    assert "a pass, of items up to 399)" in plain
    [fits] = line("max_activation_gb = 0.00429")
    assert "of items up to 399; 0.00429 GB a pass, 1 of 2 layers run again for the longest)" in fits
    _, refused = line("max_activation_gb = 0.001")
    assert refused.startswith("train: items as long as that will be refused: training.max_acti")


def test_a_model_that_is_not_here_is_said_to_be_unknown(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(
        'name = "r"\n[[ingest.datasets]]\nkind = "food"\n[train]\nmodel = {path = "no/such"}\n'
    )
    [one] = bills(load_recipe(path), Machine("cpu", 10**9))
    assert "not known" in next(iter(one.lines()))
    assert one.as_json()["bytes"] is None


def test_what_sft_starts_from_is_what_train_takes() -> None:
    found = {b.stage: b.bill for b in bills(load_recipe(RECIPES / "food.toml"))}
    assert list(found) == ["sft", "judge", "sample", "train"]
    assert all(bill is not None and bill.total for bill in found.values())


@pytest.mark.parametrize(
    "command", [["validate"], ["run", "--dry-run"], ["doctor"]], ids=lambda words: words[0]
)
def test_three_commands_say_it(
    recipe: Path, tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each child process would load transformers, for what `validate` says of templates.
    monkeypatch.setattr(preflight, "template_problems_in_a_child", preflight.template_problems)
    where = ["--run-dir", str(tmp_path / "run")] if command[0] == "run" else []
    plain = CliRunner().invoke(app, [*command, "--recipe", str(recipe), *where])
    assert plain.exit_code == 0, plain.output
    assert "\ntrain: " in "\n" + plain.stdout
    said = CliRunner().invoke(app, [*command, "--recipe", str(recipe), *where, "--json"])
    train = json.loads(said.stdout)["memory"]["train"]
    assert train["bytes"] == sum(train["parts"].values())


def test_the_room_is_the_containers_where_it_has_less(tmp_path: Path) -> None:
    for name, text in (
        ("proc/meminfo", "MemTotal:  2000 kB\nMemFree: 1 kB\n"),
        ("sys/fs/cgroup/memory.max", "max\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory.cpu_room(tmp_path) == 2_048_000
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("1000000\n")
    assert memory.cpu_room(tmp_path) == 1_000_000
