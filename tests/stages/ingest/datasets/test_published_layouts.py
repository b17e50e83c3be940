"""Data sets in the layout their authors published, made here and read offline."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import BackendError, DataError
from stages.ingest import STAGE
from stages.ingest.config import IngestConfig
from stages.ingest.datasets.config import UltraFeedbackDataset
from stages.ingest.datasets.own.preferences import parse_prompt
from stages.ingest.datasets.ultrafeedback import UltraFeedbackReader
from stages.ingest.examples import RowError
from tests.fixtures.ingest import Ingest

PARTS = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"content": text, "role": ("user", "assistant")[i % 2]} for i, text in enumerate(texts)]


@pytest.fixture
def hh_folder(tmp_path: Path) -> Path:
    """All parts of HH, two rows a file."""
    for part in PARTS:
        for split in ("train", "test"):
            folder = tmp_path / "hh-rlhf" / part
            folder.mkdir(parents=True, exist_ok=True)
            with gzip.open(folder / f"{split}.jsonl.gz", "wt") as file:
                for i in range(2):
                    start = f"\n\nHuman: {part} {split} {i}\n\nAssistant: "
                    row = {"chosen": start + "yes", "rejected": start + "no"}
                    file.write(json.dumps(row) + "\n")
    return tmp_path / "hh-rlhf"


def _reader(**settings: Any) -> UltraFeedbackReader:
    return UltraFeedbackReader(UltraFeedbackDataset(path="x", **settings))


def test_hh_is_read_from_its_folder_with_its_own_splits(ingest: Ingest, hh_folder: Path) -> None:
    result = ingest({"kind": "hh", "path": str(hh_folder), "keep_source_split": True})
    rows = result.table("comparisons")
    assert len(rows) == 16
    assert all(f"/{row['split']}.jsonl.gz" in row["file"] for row in rows)
    assert {Path(row["file"]).parent.name for row in rows} == set(PARTS)
    assert all(
        row["prompt"][0]["content"].startswith(Path(row["file"]).parent.name) for row in rows
    )


def test_red_team_attempts_are_refused_by_name(hh_folder: Path) -> None:
    (hh_folder / "red-team-attempts").mkdir()
    (hh_folder / "red-team-attempts" / "red_team_attempts.jsonl.gz").write_bytes(b"")
    dataset = {"kind": "hh", "path": str(hh_folder)}
    with pytest.raises(DataError, match=r"red_team_attempts.*no preferences.*four parts"):
        STAGE.files(IngestConfig.model_validate({"datasets": [dataset]}))
    parts = {"kind": "hh", "path": f"{hh_folder}/h*/*.jsonl.gz"}
    assert len(STAGE.files(IngestConfig.model_validate({"datasets": [parts]}))) == 8


def test_red_team_attempts_are_refused_by_content(ingest: Ingest, jsonl: Any) -> None:
    row = {"transcript": "\n\nHuman: x\n\nAssistant: y", "rating": 1.0, "num_params": "52B"}
    with pytest.raises(DataError, match=r"red_team_attempt 2.*nothing to compare it to"):
        ingest({"kind": "hh", "path": jsonl([row, row])})


UF = {
    "prompt": "Hi",
    "prompt_id": "not the sha256 of the prompt",
    "chosen": turns("Hi", "yes"),
    "rejected": turns("Hi", "no"),
    "messages": turns("something", "else"),
    "score_chosen": 8.0,
    "score_rejected": 5.5,
}


def test_h4_parquet_keeps_its_splits(ingest: Ingest, tmp_path: Path) -> None:
    for split in ("train_prefs", "test_prefs"):
        row = UF | {"prompt": split} | {k: turns(split, k) for k in ("chosen", "rejected")}
        path = tmp_path / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist([row]), path)
    pattern = str(tmp_path / "data" / "*_prefs-*.parquet")
    result = ingest({"kind": "ultrafeedback", "path": pattern, "keep_source_split": True})
    rows = result.table("comparisons")
    assert {(r["prompt"][0]["content"], r["split"]) for r in rows} == {
        ("train_prefs", "train"),
        ("test_prefs", "test"),
    }
    assert {(r["label_source"], r["strength"]) for r in rows} == {("model", 2.5)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"score_chosen": math.nan}, "non_finite_number"),
        ({"source": "truthful_qa"}, "eval_contamination"),
        ({"source": "TruthfulQA"}, "eval_contamination"),
        ({"score_chosen": 5.0}, "scores_contradict"),
        ({"chosen": turns("Hi", "a", "So?", "yes")}, "prompts_differ"),
        ({"prompt": "Ho"}, "prompt_mismatch"),
    ],
)
def test_ultrafeedback_rows_that_cannot_be_used(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError) as error:
        _reader().parse({**UF, **change})
    assert error.value.reason == reason


def test_equal_scores_are_a_tie() -> None:
    example = _reader().parse({**UF, "score_chosen": 5.5})
    assert (example.label, example.strength) == ("Tie", 0.0)


def test_several_turns_are_one_prompt() -> None:
    long = {k: turns("Hi", "Yes?", "So?", k) for k in ("chosen", "rejected")}
    example = _reader().parse({**UF, **long, "prompt": "Hi"})
    assert [turn["content"] for turn in example.prompt] == ["Hi", "Yes?", "So?"]


def test_truthful_qa_is_kept_on_demand() -> None:
    row = UF | {"source": "truthful_qa"}
    assert _reader(truthful_qa="keep").parse(row).category == "truthful_qa"


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of a hub: `datasets` reads a local copy in the same layout as it is."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


def test_hub_folders_are_read_through_datasets(
    ingest: Ingest, hh_folder: Path, offline_hub: Path
) -> None:
    hub = {"kind": "hh", "hub_id": str(hh_folder), "hub_revision": "0" * 40}
    part = {"hub_folder": "helpful-base", "hub_split": "test", "keep_source_split": True}
    rows = ingest({**hub, **part}).table("comparisons")
    assert [r["prompt"][0]["content"] for r in rows] == [f"helpful-base test {i}" for i in range(2)]
    assert {r["split"] for r in rows} == {"test"}
    assert {r["file"] for r in rows} == {f"hub:{hh_folder}@{'0' * 40}/helpful-base/test"}


def test_hub_configurations_are_read_through_datasets(
    ingest: Ingest, jsonl: Any, offline_hub: Path
) -> None:
    """HelpSteer3's layout: a folder per configuration, named in the README, feedback or none."""
    row = {
        "domain": "code",
        "language": "python",
        "context": turns("Hi"),
        "response1": "a",
        "response2": "b",
        "overall_preference": -2,
    }
    said = {"score": -2, "reasoning": "r", "feedback1": "f", "feedback2": "g"}
    folder = offline_hub / "HelpSteer3"
    (folder / "preference").mkdir(parents=True)
    for split in ("train", "validation"):
        full = {**row, "context": turns(split), "individual_preference": [said]}
        data = json.dumps(full).encode() + b"\n"
        (folder / "preference" / f"{split}.jsonl.gz").write_bytes(gzip.compress(data, mtime=0))
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: preference\n  default: true\n  data_files:\n"
        "  - split: train\n    path: preference/train.jsonl.gz\n"
        "  - split: validation\n    path: preference/validation.jsonl.gz\n---\n"
    )
    hub = {"kind": "helpsteer3", "hub_id": str(folder), "hub_subset": "preference"}
    splits = ({"hub_split": s, "keep_source_split": True} for s in ("train", "validation"))
    rows = ingest(*({**hub, **split} for split in splits)).table("comparisons")
    found = [(r["prompt"][0]["content"], r["split"], r["strength"]) for r in rows]
    assert found == [("train", "train", 2.0), ("validation", "test", 2.0)]
    assert rows[0]["annotations"][0]["reason"] == "r"


def test_a_hub_split_that_is_not_there_is_named(
    ingest: Ingest, hh_folder: Path, offline_hub: Path
) -> None:
    hub = {"kind": "hh", "hub_id": str(hh_folder), "hub_folder": "helpful-base"}
    with pytest.raises(BackendError, match=r"helpful-base/dev: cannot be loaded.*check the name"):
        ingest({**hub, "hub_split": "dev"})


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi"},
        {"prompt": turns("Hi"), "chosen": "x"},
        {"messages": turns("Hi", "an answer")},
        {"conversation": turns("Hi"), "model": "m", "instruction": "not this"},
        {"instruction": "Hi", "output": "an answer", "prompt": None},
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_prompts_alone_come_in_many_shapes(
    ingest: Ingest, tmp_path: Path, row: dict[str, Any], kind: str
) -> None:
    path = tmp_path / "prompts.data"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps(row) + "\n")
    result = ingest({"kind": kind, "path": str(path), "content": "prompts"})
    assert [r["prompt"] for r in result.table("prompts")] == [[{"role": "user", "content": "Hi"}]]


def test_a_conversation_without_a_question_is_no_prompt() -> None:
    with pytest.raises(RowError, match="empty_prompt"):
        parse_prompt({"messages": [{"role": "assistant", "content": "Hello"}]})
    with pytest.raises(RowError, match="missing_field"):
        parse_prompt({"ask": "Hi"})
