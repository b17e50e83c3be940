"""What is exported is read by others as they do, and comes back with ids, ties and strengths."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pandas
import polars
import pyarrow.parquet as pq
import pytest

from pipeline.commands.data.export import export
from pipeline.commands.data.exporting import write_export
from pipeline.commands.data.formats import Format, Ties
from schemas.errors import ConfigError, DataError
from schemas.ids import comparison_id, pair_id, prompt_id
from schemas.parquet import read_rows, write_table
from schemas.stage import SilentProgress, StageContext
from schemas.tables import COMPARISONS, PREFERENCE_PAIRS
from stages.ingest import STAGE
from stages.ingest.config import IngestConfig

KEPT = (
    *("comparison_id", "prompt_id", "prompt", "completion_a", "completion_b", "label"),
    *("strength", "label_source", "category", "split"),
)


def said(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def comparison(index: int) -> dict[str, Any]:
    """Every label, with and without strength, odd characters, and several turns."""
    prompt = [*said("system", "Be kind. 🍕"), *said("user", f'question {index}\n"\u2028\x1e')]
    a, b = said("assistant", f"one é {index}"), said("assistant", f" two {index}")
    label = ("A", "B", "Tie", None)[index % 4]
    strength = {"A": None if index % 8 else 2.5, "B": 1.0, "Tie": 0.0}.get(label or "")
    annotation = {"annotator": "x", "label": "Tie", "strength": None, "reason": "r"}
    annotation |= {"feedback_a": "first", "feedback_b": None}
    return {
        "comparison_id": comparison_id(prompt, a, b),  # type: ignore[arg-type]
        "prompt_id": prompt_id(prompt),  # type: ignore[arg-type]
        "prompt": prompt,
        "completion_a": a,
        "completion_b": b,
        "label": label,
        "strength": strength,
        "annotations": [annotation] if index % 2 else [],
        "label_source": "model" if label else None,
        "completion_a_id": None,
        "completion_b_id": None,
        "split": "test" if index % 3 == 0 else "train",
        "category": "c" if index % 5 else None,
        "source": "s",
        "file": "f.jsonl",
        "row": index,
    }


def pair(index: int) -> dict[str, Any]:
    prompt, chosen, rejected = (said(r, f"{r} {index}") for r in ("user", "assistant", "assistant"))
    rejected = said("assistant", f"worse {index}")
    return {
        "pair_id": pair_id(prompt, chosen, rejected),  # type: ignore[arg-type]
        "prompt_id": prompt_id(prompt),  # type: ignore[arg-type]
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "margin": 0.5,
        "consistent": True,
        "label_source": "judge",
        "comparison_id": f"c{index}",
        "chosen_id": None,
        "rejected_id": None,
        "split": "train",
        "source": "s",
        "file": "f",
        "row": index,
    }


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    write_table(
        tmp_path / "run/ingest/comparisons.parquet", COMPARISONS, [comparison(i) for i in range(40)]
    )
    write_table(
        tmp_path / "run/label/preference_pairs.parquet",
        PREFERENCE_PAIRS,
        [pair(i) for i in range(10)],
    )
    return tmp_path / "run"


def table(run_dir: Path) -> Path:
    return run_dir / "ingest" / "comparisons.parquet"


def read_again(folder: Path, kind: str) -> dict[str, dict[str, Any]]:
    """The comparisons that ingest makes of an exported folder, by id."""
    dataset = {"kind": kind, "path": str(folder), "keep_source_split": True}
    output = folder.parent / "again"
    config = IngestConfig.model_validate({"datasets": [dataset], "dev_fraction": 0.0})
    context = StageContext(inputs={}, output=output, progress=SilentProgress())
    assert STAGE.run(config, context)["rejects"] == 0
    return {r["comparison_id"]: r for r in read_rows(output / "comparisons.parquet", COMPARISONS)}


@pytest.mark.parametrize(("to", "kind"), [(Format.TRL, "parquet"), (Format.COOKBOOK, "jsonl")])
def test_comparisons_come_back_as_they_were(
    run_dir: Path, tmp_path: Path, to: Format, kind: str
) -> None:
    counts = write_export(to, [table(run_dir)], tmp_path / "out", Ties.KEEP)
    labelled = {r["comparison_id"]: r for r in map(comparison, range(40)) if r["label"]}
    assert sum(c["rows"] for c in counts.values()) == len(labelled) == 30
    assert sum(c["unlabelled left out"] for c in counts.values()) == 10
    again = read_again(tmp_path / "out", kind)
    assert set(again) == set(labelled)
    for key, row in labelled.items():
        assert {k: again[key][k] for k in KEPT} == {k: row[k] for k in KEPT}


def test_our_own_lines_come_back_with_their_annotations(run_dir: Path, tmp_path: Path) -> None:
    rows = [r for r in map(comparison, range(40)) if r["label"]]
    write_table(tmp_path / "labelled.parquet", COMPARISONS, rows)
    write_export(Format.JSONL, [tmp_path / "labelled.parquet"], tmp_path / "out")
    again = read_again(tmp_path / "out", "jsonl")
    keys = (*KEPT, "annotations")
    assert {i: [r[k] for k in keys] for i, r in again.items()} == {
        r["comparison_id"]: [r[k] for k in keys] for r in rows
    }


def test_json_lines_hold_every_column_of_any_table(run_dir: Path, tmp_path: Path) -> None:
    write_export(Format.JSONL, [table(run_dir)], tmp_path / "out")
    lines = [
        json.loads(line)
        for split in ("test", "train")
        for line in (tmp_path / f"out/{split}.jsonl").read_text("utf-8").split("\n")
        if line
    ]
    for line, row in zip(
        sorted(lines, key=lambda r: r["row"]), map(comparison, range(40)), strict=True
    ):
        assert {key: line[key] for key in row} == row


def test_ties_never_reach_a_trainer_that_has_no_word_for_them(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(Format.TRL, str(tmp_path / "trl"), str(table(run_dir)))
    assert "3 ties left out" in capsys.readouterr().out
    frame = polars.read_parquet(tmp_path / "trl/*.parquet")
    assert frame.height == 20
    export(Format.COOKBOOK, str(tmp_path / "cookbook"), "ingest/comparisons", run_dir)
    assert "--ties drop leaves them out" in capsys.readouterr().err
    export(Format.COOKBOOK, str(tmp_path / "strict"), "comparisons", run_dir, ties=Ties.DROP)
    assert "--ties" not in capsys.readouterr().err
    assert '"Tie"' not in (tmp_path / "strict/train.jsonl").read_text("utf-8")


def test_the_trl_folder_is_read_alike_by_everybody(run_dir: Path, tmp_path: Path) -> None:
    import datasets

    out = tmp_path / "out"
    write_export(Format.TRL, [table(run_dir)], out, Ties.DROP)
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert {split: rows.num_rows for split, rows in loaded.items()} == {"train": 13, "test": 7}
    file = out / "train.parquet"
    expected = pq.read_table(file).to_pylist()
    assert loaded["train"].to_list() == expected
    assert polars.read_parquet(file).to_dicts() == expected
    read = pandas.read_parquet(file)
    assert [[dict(m) for m in p] for p in read["prompt"]] == [r["prompt"] for r in expected]
    features = {"role": datasets.Value("string"), "content": datasets.Value("string")}
    assert loaded["train"].features["chosen"] == datasets.List(features)


@pytest.mark.trl
def test_trl_takes_its_own_format(run_dir: Path, tmp_path: Path) -> None:
    from trl import data_utils

    write_export(Format.TRL, [table(run_dir)], tmp_path / "out", Ties.DROP)
    row = pq.read_table(tmp_path / "out/train.parquet").to_pylist()[0]
    assert data_utils.is_conversational(row)
    # Columns of ours must not be among those that make another format of it.
    known = {"prompt", "chosen", "rejected", "completion", "messages", "label"}
    assert known & set(row) == {"prompt", "chosen", "rejected"}


def test_duckdb_reads_the_tables(run_dir: Path) -> None:
    found = duckdb.execute(f"select prompt[2].content, label from '{table(run_dir)}' order by row")
    assert found.fetchall()[1] == (comparison(1)["prompt"][1]["content"], "B")


def test_the_hub_layout_loads_by_configuration_and_split(run_dir: Path, tmp_path: Path) -> None:
    import datasets

    tables = [table(run_dir), run_dir / "label" / "preference_pairs.parquet"]
    counts = write_export(Format.HUB_LAYOUT, tables, tmp_path / "hub")
    assert set(counts) == {
        "data/comparisons/train.parquet",
        "data/comparisons/test.parquet",
        "data/preference_pairs/train.parquet",
    }
    cache = str(tmp_path / "cache")
    loaded = datasets.load_dataset(str(tmp_path / "hub"), cache_dir=cache)
    assert {split: rows.num_rows for split, rows in loaded.items()} == {"train": 26, "test": 14}
    pairs = datasets.load_dataset(str(tmp_path / "hub"), "preference_pairs", cache_dir=cache)
    for found, row in zip(pairs["train"].to_list(), map(pair, range(10)), strict=True):
        assert {key: found[key] for key in row} == row


def test_pairs_go_to_the_cookbook_on_both_sides(run_dir: Path, tmp_path: Path) -> None:
    pairs = run_dir / "label" / "preference_pairs.parquet"
    write_export(Format.COOKBOOK, [pairs], tmp_path / "out")
    lines = [json.loads(s) for s in (tmp_path / "out/train.jsonl").read_text("utf-8").splitlines()]
    assert {line["label"] for line in lines} == {"A", "B"}
    for index, line in enumerate(lines):
        chosen = line["comparison"][f"completion_{line['label']}"]
        assert chosen == pair(index)["chosen"]


def test_without_a_table_the_pairs_of_the_run_are_written(run_dir: Path, tmp_path: Path) -> None:
    export(Format.TRL, str(tmp_path / "out"), None, run_dir)
    rows = pq.read_table(tmp_path / "out/train.parquet").to_pylist()
    assert [(r["chosen"], r["score_chosen"], r["score_rejected"]) for r in rows] == [
        (pair(i)["chosen"], 0.5, 0.0) for i in range(10)
    ]


def test_what_cannot_be_written_is_said_and_nothing_is_left(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"x\.parquet: cannot be read as Parquet"):
        write_export(Format.TRL, [tmp_path / "x.parquet"], tmp_path / "out")
    write_table(tmp_path / "rejects.parquet", COMPARISONS, [])
    rejects = tmp_path / "plain.parquet"
    polars.DataFrame({"a": [1]}).write_parquet(rejects)
    with pytest.raises(ConfigError, match=r"only comparisons and preference_pairs.*--to jsonl"):
        write_export(Format.COOKBOOK, [rejects], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export(Format.JSONL, str(tmp_path / "out"), str(rejects), as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed["files"] == {"train.jsonl": {"rows": 1}}
    with pytest.raises(ConfigError, match="exists; delete it or choose another"):
        write_export(Format.JSONL, [rejects], tmp_path / "out")


def test_a_folder_beside_the_export_keeps_its_files(run_dir: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "mine.writing" / "thesis.txt"
    theirs.parent.mkdir()
    theirs.write_text("years of work")
    write_export(Format.TRL, [table(run_dir)], tmp_path / "mine", Ties.KEEP)
    assert theirs.read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine.writing", "run"]
