"""Data cards against hand counts, on tables the ingest stage writes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from evals.files.data_card import data_card
from pipeline.commands.data.stats import show_cards, stats, tables_of
from schemas.errors import DataError, MissingInputError
from schemas.parquet import read_rows, write_table
from schemas.stage import SilentProgress, StageContext
from schemas.tables import COMPARISONS, PREFERENCE_PAIRS, PROMPTS
from stages.ingest import STAGE
from stages.ingest.config import IngestConfig

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


def test_a_source_says_how_its_labels_lie(run_dir: Path) -> None:
    card = data_card(run_dir / "ingest" / "comparisons.parquet")
    (own,) = card["by_source"].values()
    labels = card["counts"]["label"]
    assert (own["rows"], own["ties"], own["unlabelled"], own["strength"]) == (4, 1, 0, 1.0)
    assert own["a_share"] == labels.get("A", 0) / 3
    assert own["chosen_longer"] == card["chosen_longer"]


def test_sources_are_told_apart(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run_dir / "ingest" / "comparisons.parquet"
    rows = read_rows(path, COMPARISONS)
    write_table(
        path, COMPARISONS, [r | {"source": "other"} if i else r for i, r in enumerate(rows)]
    )
    assert {s: c["rows"] for s, c in data_card(path)["by_source"].items()} == {"other": 3, "own": 1}
    stats("ingest/comparisons", run_dir)
    assert "  other: 3 rows, 1 ties" in capsys.readouterr().out


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A tokenizer whose tokens are words."""
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.enable_truncation(1)
    path = tmp_path / "sft" / "model" / "tokenizer.json"
    path.parent.mkdir(parents=True)
    tokenizer.save(str(path))
    return path


def test_tokens_are_counted_where_a_tokenizer_is_at_hand(
    run_dir: Path, words: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = run_dir / "ingest" / "comparisons.parquet"
    assert "tokens" not in data_card(table)
    for place in (words, words.parent):
        card = data_card(table, place)
        # Both answers of a row, whichever side they are on: 2+1, 1+3, 1+1, 1+2 words.
        means = [card["tokens"][side]["mean"] for side in ("completion_a", "completion_b")]
        assert sum(means) == 12 / 4
        assert card["tokens"]["prompt"]["max"] == 1
    stats("ingest/comparisons", run_dir)  # the run's own
    assert re.search(r"prompt tokens +1 +1 +1 +1 +1 +4$", capsys.readouterr().out, re.MULTILINE)
    with pytest.raises(DataError, match="not a tokenizer"):
        data_card(table, table)


def test_a_large_table_is_tokenized_in_part(
    run_dir: Path, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evals.models.token_lengths.SAMPLED", 3)
    card = data_card(run_dir / "ingest" / "comparisons.parquet", words)
    assert card["tokens"]["prompt"]["count"] == 2  # every other of four rows


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
