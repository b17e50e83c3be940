"""The data section against hand counts, and what its pictures say."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup

from schemas.parquet import write_table
from schemas.results.report import PairDistance
from schemas.tables import COMPARISONS, REJECTS
from stages.report.charts.bars import Bar, stacked_bars
from stages.report.gather import data
from stages.report.gather.sources import Sources
from stages.report.gather.training import pair_distance
from stages.report.page.data_figures import data_figures
from tests.fixtures.finished_runs import FakeRun


def row(index: int, **more: Any) -> dict[str, Any]:
    def said(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    return {
        **dict.fromkeys(COMPARISONS.schema.names),
        "comparison_id": f"c{index}",
        "prompt_id": f"p{index // 2}",
        "prompt": said("user", "ask"),
        "completion_a": said("assistant", "longer"),
        "completion_b": said("assistant", "no"),
        "label": "A",
        "strength": 1.0,
        "annotations": [],
        "split": "train",
        "source": "one",
        "file": "f",
        "row": index,
    } | more


ROWS = [
    row(0),
    row(1, label="B", split="test"),
    row(2, label="Tie", strength=0.0),
    row(3, source="<two>", strength=None),
    row(4, source="<two>", label=None, strength=None),
]


def read(folder: Path, rows: list[dict[str, Any]], reasons: list[str]) -> dict[str, Any]:
    run = FakeRun(folder)
    ingest = run.stage("ingest")
    write_table(ingest / "comparisons.parquet", COMPARISONS, rows)
    rejected = {"table": "comparisons", "detail": "", "file": "f", "row": 0, "raw": ""}
    write_table(ingest / "rejects.parquet", REJECTS, [{**rejected, "reason": r} for r in reasons])
    return data.ingested(Sources(run.context()))


def test_the_numbers_are_those_of_the_table(tmp_path: Path) -> None:
    found = read(tmp_path, ROWS, ["duplicate", "empty_chosen", "duplicate"])
    assert (found["n"], found["prompts_repeated"], found["chosen_longer"]) == (5, 2, 2 / 3)
    assert found["rejects"] == [
        {"reason": "duplicate", "rows": 2},
        {"reason": "empty_chosen", "rows": 1},
    ]
    one, two = found["sources"]
    assert one == {
        "source": "one",
        "rows": 3,
        "ties": 1,
        "unlabelled": 0,
        "a_share": 0.5,
        "strength": 2 / 3,
        "chosen_longer": 0.5,
        "train": 2,
        "dev": 0,
        "test": 1,
    }
    assert (two["source"], two["unlabelled"], two["a_share"], two["strength"]) == (
        *("<two>", 1, 1.0),
        None,
    )
    lengths = found["lengths"]
    assert lengths["unit"] == "characters"
    assert {n: (g["n"], g["max"]) for n, g in lengths["groups"].items()} == {
        "prompt": (5, 3),
        "answer": (10, 6),
    }
    strengths = {name: (g["n"], g["mean"]) for name, g in found["strengths"]["groups"].items()}
    assert strengths == {"one": (2, 1.0)}  # without its tie


def test_strengths_of_sources_are_not_mixed(tmp_path: Path) -> None:
    more = [row(i, source=f"s{i % 6}", strength=float(i % 6)) for i in range(10, 21)]
    groups = read(tmp_path, [*ROWS, *more], [])["strengths"]["groups"]
    assert {name: (g["n"], g["mean"]) for name, g in groups.items()} == {
        "one": (2, 1.0),
        "s0": (2, 0.0),
        "s1": (2, 1.0),
        "s2": (2, 2.0),
    }


def test_pictures_say_in_words_what_they_show(tmp_path: Path) -> None:
    found = read(tmp_path, ROWS, ["duplicate"] * 3)
    figures = {figure.title: figure for figure in data_figures(found)}
    assert list(figures) == [
        "Labels by source",
        "Length of prompts and answers",
        "Strength of the labels",
        "Rows left out",
    ]
    labels = figures["Labels by source"].svg
    assert "one A preferred 33.3%, tie 33.3%, B preferred 33.3%" in labels
    assert "&lt;two&gt;" in labels
    assert "<two>" not in labels
    assert "duplicate 3" in figures["Rows left out"].svg


def test_without_comparisons_there_is_no_data(tmp_path: Path) -> None:
    found = read(tmp_path, [], ["duplicate"])
    assert (found["n"], found["sources"]) == (0, [])
    assert [figure.title for figure in data_figures(found)] == ["Rows left out"]


def widths(svg: Markup) -> list[float]:
    return [float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)"', svg)]


def test_bars_fill_the_width_by_share_or_by_the_longest() -> None:
    bars = [Bar("a", [("chosen", "x", 1), ("rejected", "y", 3)]), Bar("b", [("chosen", "x", 1)])]
    assert widths(stacked_bars("t", bars, relative=True)) == [85, 255, 340]
    assert widths(stacked_bars("t", bars, relative=False)) == [85, 255, 85]
    assert stacked_bars("t", [Bar("none", [])], relative=True) == ""


def test_rare_reasons_stand_together(tmp_path: Path) -> None:
    reasons = [f"reason_{i:02d}" for i in range(12) for _ in range(20 - i)]
    svg = data_figures(read(tmp_path, [], reasons))[0].svg
    assert "4 other reasons 42" in svg  # 12 + 11 + 10 + 9
    assert "reason 08" not in svg


def test_the_distance_of_pairs_is_log_probability_per_token_beside_own_samples(
    tmp_path: Path,
) -> None:
    """By hand: chosen (-2 / 2 - 9 / 3) / 2, rejected (-8 / 2 - 4 / 1) / 2, own -3 / 6."""
    run = FakeRun(tmp_path)
    train, sample = run.stage("train", {"loss": {"kind": "sigmoid"}}), run.stage("sample")
    columns = {
        "chosen_logps": [-2.0, -9.0],
        "chosen_tokens": [2, 3],
        "rejected_logps": [-8.0, -4.0],
        "rejected_tokens": [2, 1],
    }
    pq.write_table(pa.table(columns), train / "reference_logps.parquet")
    assert pair_distance(Sources(run.context())) == PairDistance(pairs=2, chosen=-2, rejected=-4)
    own = {"sum_logps": [-3.0, None], "num_tokens": [6, 4]}
    pq.write_table(pa.table(own), sample / "completions.parquet")
    found = pair_distance(Sources(run.context()))
    assert found == PairDistance(pairs=2, chosen=-2, rejected=-4, own=-0.5, own_samples=1)
    run.stage("train", {"loss": {"kind": "kto"}})
    assert pair_distance(Sources(run.context())) is None
