"""Data cards against hand counts, on tables the ingest stage writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals.data_card import data_card
from pipeline.stats_command import show_cards, stats, tables_of
from schemas.errors import DataError, MissingInputError
from schemas.parquet import write_table
from schemas.stage import SilentProgress, StageContext
from schemas.tables import PREFERENCE_PAIRS, PROMPTS
from stages.ingest import STAGE, IngestConfig

# Chosen longer, shorter, equally long (in characters, not bytes), a tie, and an empty answer.
ROWS: list[dict[str, Any]] = [
    {"prompt": "p", "chosen": "long answer", "rejected": "no", "score_chosen": 4.0},
    {"prompt": "p", "chosen": "no", "rejected": "a longer one", "score_chosen": 3.0},
    {"prompt": "qq", "chosen": "äö", "rejected": "no", "score_chosen": 3.0},
    {"prompt": "rrr", "chosen": "one", "rejected": "two two", "score_chosen": 2.0},
    {"prompt": "s", "chosen": "", "rejected": "two", "score_chosen": 4.0},
]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run whose ingest read ROWS."""
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps({**r, "score_rejected": 2.0}) + "\n" for r in ROWS))
    dataset = {"kind": "jsonl", "path": str(source), "name": "own"}
    config = IngestConfig.model_validate({"datasets": [dataset]})
    context = StageContext(inputs={}, output=tmp_path / "ingest", progress=SilentProgress())
    STAGE.run(config, context)
    return tmp_path


def test_a_card_counts_what_a_person_would(run_dir: Path) -> None:
    card = data_card(run_dir / "ingest" / "comparisons.parquet")
    assert card["rows"] == 4
    assert card["counts"]["source"] == {"own": 4}
    labels = card["counts"]["label"]
    assert labels["Tie"] == 1
    assert labels.get("A", 0) + labels.get("B", 0) == 3
    assert card["counts"]["category"] == {"(none)": 4}
    assert card["prompts_repeated"] == 1
    assert card["chosen_longer"] == (1 + 0 + 0.5) / 3
    assert card["numbers"]["strength"] == {
        "count": 4,
        "mean": 1.0,
        "min": 0.0,
        "p50": 1.0,
        "p95": 2.0,
        "max": 2.0,
    }
    characters = card["characters"]["prompt"]
    assert (characters["min"], characters["max"], characters["mean"]) == (1, 3, 7 / 4)
    rejects = data_card(run_dir / "ingest" / "rejects.parquet")
    assert rejects["counts"]["reason"] == {"empty_chosen": 1}


def test_a_pair_says_itself_which_side_was_chosen(tmp_path: Path) -> None:
    turns = {
        k: [{"role": "assistant", "content": v}] for k, v in zip("cr", ("ab", "a"), strict=True)
    }
    row = dict.fromkeys(PREFERENCE_PAIRS.schema.names) | {
        "pair_id": "1",
        "prompt_id": "2",
        "prompt": [],
        "chosen": turns["c"],
        "rejected": turns["r"],
        "label_source": "rule",
        "comparison_id": "3",
        "split": "train",
        "source": "s",
        "file": "f",
        "row": 0,
    }
    write_table(tmp_path / "pairs.parquet", PREFERENCE_PAIRS, [row])
    card = data_card(tmp_path / "pairs.parquet")
    assert card["chosen_longer"] == 1.0
    assert card["characters"]["prompt"]["mean"] == 0
    assert card["numbers"]["margin"]["count"] == 0


def test_the_command_prints_and_gives_json(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stats("ingest", run_dir, as_json=True)
    cards = json.loads(capsys.readouterr().out)
    assert set(cards) == {"comparisons", "demonstrations", "prompts", "rejects"}
    stats("ingest/rejects", run_dir)
    printed = capsys.readouterr().out
    assert "rejects: 1 rows" in printed
    assert "empty_chosen 1 (100.0%)" in printed


def test_an_empty_table_has_a_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path / "prompts.parquet", PROMPTS, [])
    show_cards({"prompts": data_card(tmp_path / "prompts.parquet")})
    assert capsys.readouterr().out == "prompts: 0 rows\n"


def test_what_is_not_there_or_not_a_table_is_said(run_dir: Path) -> None:
    with pytest.raises(MissingInputError, match="no such table; there are ingest/comparisons"):
        tables_of("nothing", run_dir)
    (run_dir / "x.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=r"x\.parquet: cannot be read as Parquet") as error:
        data_card(run_dir / "x.parquet")
    assert "\n" not in str(error.value)
