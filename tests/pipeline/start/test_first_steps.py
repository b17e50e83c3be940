"""What a new user meets first: a run that is not there, a judge misspelt, an adapter again."""

import json
from pathlib import Path

import fsspec
import pytest

from evals.judges.judge_spec import judge_settings
from pipeline.commands.data.trace import trace_back
from pipeline.commands.start.drafting import dataset_settings
from pipeline.commands.start.train_pairs import rank_of
from pipeline.display.rows import find_table
from schemas.errors import ConfigError, DataError, MissingInputError


def test_a_run_that_is_not_there_names_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingInputError, match=r"runs/food: no run is there; name one with --run"):
        trace_back("abc", Path("runs/food"))
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "run.json").write_text("{}")
    with pytest.raises(MissingInputError, match=r"with --run-dir \(there are runs/mine\)"):
        find_table("ingest/comparisons", Path("runs/food"))
    with pytest.raises(MissingInputError, match=r"no such table; runs/mine has no tables"):
        find_table("ingest/comparisons", Path("runs/mine"))


def test_a_judge_that_is_misspelt_is_told_which_there_are() -> None:
    with pytest.raises(ConfigError) as raised:
        judge_settings("lenght")
    said = str(raised.value)
    assert said.startswith("judge lenght: no kind lenght; one of ")
    assert "length" in said
    assert said.endswith("or a model's folder, owner/name on a hub, or openai:MODEL@URL")
    with pytest.raises(ConfigError, match="no kind lenght"):
        judge_settings('{"kind": "lenght"}')


def test_training_goes_on_with_an_adapter_at_its_rank(tmp_path: Path) -> None:
    assert rank_of("some/model") == rank_of(str(tmp_path)) == 32
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4}))
    assert rank_of(str(tmp_path)) == 4
    (tmp_path / "adapter_config.json").write_text("[")
    assert rank_of(str(tmp_path)) == 32


def test_columns_and_addresses_are_said_in_one_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.csv").write_text("instruction,good,bad\nq,a,b\n")
    said = dataset_settings(str(tmp_path / "p.csv"), columns="chosen=good, rejected=bad")
    assert said["columns"] == {"chosen": "good", "rejected": "bad"}
    assert said["kind"] == "csv"
    with pytest.raises(DataError, match="or --columns chosen=good,rejected=bad"):
        dataset_settings(str(tmp_path / "p.csv"))
    (tmp_path / "none.jsonl").touch()
    with pytest.raises(DataError, match=r"none\.jsonl: the file is empty"):
        dataset_settings(str(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="has no column god, which columns names"):
        dataset_settings(str(tmp_path / "p.csv"), columns="chosen=god,rejected=bad")
    with pytest.raises(ConfigError, match="--columns good: write chosen=good,rejected=bad"):
        dataset_settings(str(tmp_path / "p.csv"), columns="good")
    monkeypatch.setenv("PREFLINE_CACHE", str(tmp_path / "cache"))
    row = json.dumps({"prompt": "q", "chosen": "a", "rejected": "b"})
    fsspec.filesystem("memory").pipe("/steps/p.jsonl", row.encode())
    said = dataset_settings("memory://steps/p.jsonl")
    assert said == {"kind": "jsonl", "path": "memory://steps/p.jsonl"}
    with pytest.raises(MissingInputError, match="no such file there"):
        dataset_settings("memory://steps/none.jsonl")
