"""doctor and render: what a chat template does to conversations, and whether it can be used."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evals.models.chat.checks import CHECKS
from pipeline.cli import app
from schemas.errors import ConfigError, DataError, MissingInputError
from tests.evals.models.test_chat_conformance import KINDS
from tests.fixtures.chat_tokenizers import byte_level


def saved(folder: Path, kind: str, **how: Any) -> str:
    byte_level(KINDS[kind], **how).save_pretrained(folder)
    return str(folder)


def doctor(model: str, *more: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, ["doctor", model, "--json", *more])
    return done.exit_code, json.loads(done.stdout)


def test_a_sound_template_has_no_finding_but_what_it_has_no_place_for(tmp_path: Path) -> None:
    code, found = doctor(saved(tmp_path, "turns"))
    assert code == 0
    assert not found["wrong"]
    assert {one["severity"] for one in found["findings"]} == {"limit"}
    assert {one["check"] for one in found["findings"]} == {"thinking", "tools"}
    assert "<|im_end|>" in found["stops"]
    assert {"<|im_start|>", "<|im_end|>"} <= set(found["neutralised"])
    assert found["example"]["completion_text"].endswith("<|im_end|>")
    assert all(found["example"]["trained"])


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ("refuses a system turn", "system_turn"),
        ("drops the system turn", "system_turn"),
        ("opens a thought, writes none", "generation_prompt"),
        ("closes nothing", "end_of_turn"),
    ],
)
def test_what_a_template_cannot_do_is_a_limit(tmp_path: Path, kind: str, check: str) -> None:
    code, found = doctor(saved(tmp_path, kind))
    assert code == 0
    assert check in {one["check"] for one in found["findings"]}
    assert all("\n" not in one["message"] for one in found["findings"])


def test_a_template_without_its_tokens_is_wrong(tmp_path: Path) -> None:
    code, found = doctor(saved(tmp_path, "turns", marks=[]))
    assert code == 2
    assert found["wrong"]
    assert "no token of the tokenizer" in found["findings"][0]["message"]
    assert found["example"] is None


def test_the_list_of_checks_has_one_function_each() -> None:
    assert len({check.__name__ for check in CHECKS}) == len(CHECKS)
    assert all(check.__doc__ for check in CHECKS)


def test_people_are_told_in_lines(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["doctor", saved(tmp_path, "closes nothing")])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert any(line.startswith("limit: end_of_turn: ") for line in lines)
    assert any(line.startswith("a sample stops at ") for line in lines)


def test_template_arguments_reach_the_template(tmp_path: Path) -> None:
    model = saved(tmp_path / "m", "opens a thought, has an argument of its own name")
    rows = tmp_path / "rows.jsonl"
    asked = {"role": "user", "content": "q"}
    rows.write_text(json.dumps({"prompt": [asked]}) + "\n" + "{\n")
    for given, end in (("true", "<think>\n"), ("false", "<think></think>")):
        done = CliRunner().invoke(
            app, ["render", model, str(rows), "--json", "--template-arg", f"ponder_thought={given}"]
        )
        first, second = map(json.loads, done.stdout.splitlines())
        assert first["prompt_text"].endswith(end)
        assert set(second) == {"error"}
    refused = CliRunner().invoke(app, ["render", model, "x", "--template-arg", "a"]).exception
    assert isinstance(refused, ConfigError)


@pytest.mark.parametrize("command", [["doctor"], ["render", "rows.jsonl"]])
def test_a_folder_that_is_not_there_is_told_as_one(command: list[str], tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    ended = CliRunner().invoke(app, [command[0], gone, *command[1:]])
    assert isinstance(ended.exception, MissingInputError)
    assert str(ended.exception) == f"{gone}: no such folder; correct its path, or give a hub id"


@pytest.mark.parametrize("way", ["pipe", "device"])
def test_rows_that_have_no_end_are_not_waited_for(tmp_path: Path, way: str) -> None:
    model = saved(tmp_path, "turns")
    odd = tmp_path / "odd.jsonl"
    os.mkfifo(odd) if way == "pipe" else odd.symlink_to("/dev/zero")
    done = CliRunner().invoke(app, ["render", model, str(odd)])
    assert isinstance(done.exception, DataError)
    assert "it is a pipe or a device" in str(done.exception)
