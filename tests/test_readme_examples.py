"""The README's five whole examples, as they stand there, with a tiny model."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from tests.fixtures.tiny_models import tiny_llama

ROOT = Path(__file__).resolve().parents[1]
# What makes a tiny model's run quick, by command; the commands are typed as they stand otherwise.
_QUICK = {
    "train-pairs": ["--chat-template", "role_colon", "--set", "evaluate.tasks=[]"],
    "init": ["--chat-template", "role_colon"],
    "run": ["--set", "evaluate.tasks=[]", "--set", "train.training.num_epochs=1"],
}


def examples() -> list[str]:
    [block] = re.findall(
        r"Five whole examples.*?```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    return re.split(r"(?m)^(?=# \d\. )", block)[1:]


def type_in(line: str, model: Path) -> None:
    words = [str(model) if word == "MODEL" else word for word in shlex.split(line)[1:]]
    done = CliRunner().invoke(app, [*words, *_QUICK.get(words[0], [])], catch_exceptions=False)
    assert done.exit_code == 0, f"{line}: {done.output}"


def test_every_example_works_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = tiny_llama(
        tmp_path / "tiny", ["2 + 2? It is 4. 5 Four", "Rice, 1 Sand, 2 3 4 5 6 7 8 9?"]
    )
    found = examples()
    assert len(found) == 5
    for example in found:
        commands = [line for line in example.splitlines() if line.startswith("prefline ")]
        assert commands
        files = "\n".join(line for line in example.splitlines() if line not in commands)
        subprocess.run(["sh", "-ec", files], check=True, timeout=60)
        for command in commands:
            type_in(command, model)
    assert (tmp_path / "comparison" / "report" / "index.html").is_file()
    assert list((tmp_path / "judged").rglob("preference_pairs.parquet"))
    assert (tmp_path / "adapter" / "train" / "model" / "adapter_config.json").is_file()
    assert (tmp_path / "published" / "README.md").is_file()
    assert json.loads((tmp_path / "run" / "report" / "summary.json").read_text())["compared"]
