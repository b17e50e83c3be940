import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evals.files.judge_bench import read_judgements
from evals.files.labelled import read_labelled
from evals.judge_card.card import build_card
from schemas.errors import DataError, MissingInputError
from schemas.labels import Preference
from schemas.parquet import write_table
from schemas.tables import COMPARISONS
from tests.fixtures.comparisons import comparison_row, labelled


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_our_table_gives_its_labelled_test_rows(tmp_path: Path) -> None:
    units = [labelled(f"q{i}", "x", "y", "B") for i in range(3)]
    rows = [comparison_row(u, "test" if i else "train", i) for i, u in enumerate(units)]
    said = {"annotator": "1", "label": "A", "strength": None, "reason": None}
    rows[1]["annotations"] = [said, {**said, "label": "B"}]
    rows.append({**comparison_row(labelled("q9", "x", "y", "A"), "test", 9), "label": None})
    write_table(tmp_path / "comparisons.parquet", COMPARISONS, rows)
    found = read_labelled(tmp_path / "comparisons.parquet")
    assert {u.comparison.prompt_id for u in found.comparisons} == {
        u.comparison.prompt_id for u in units[1:]
    }
    assert found.n_unlabelled == 1
    assert sorted(len(u.annotations) for u in found.comparisons) == [0, 2]
    assert len(read_labelled(tmp_path / "comparisons.parquet", None).comparisons) == 3
    with pytest.raises(DataError, match="no labelled comparisons of split dev"):
        read_labelled(tmp_path / "comparisons.parquet", "dev")


def test_hhh_lists_the_better_one_on_either_side(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"source": "honest", "instruction": f"q{i}", "chosen": "good", "rejected": "bad"}
        for i in range(40)
    ]
    found = read_labelled(write(tmp_path / "hhh.parquet", rows))
    for unit in found.comparisons:
        better = {
            Preference.A: unit.comparison.completion_a,
            Preference.B: unit.comparison.completion_b,
        }
        assert better[unit.label][0]["content"] == "good"
    assert 5 < sum(u.label is Preference.A for u in found.comparisons) < 35
    assert set(found.sources.values()) == {"honest"}


def test_bad_files_are_refused_by_row(tmp_path: Path) -> None:
    row: dict[str, object] = {"scenario": "s", "prompt": "q", "response_1": "a", "response_2": "b"}
    with pytest.raises(DataError, match="row 1: label"):
        read_labelled(write(tmp_path / "a.parquet", [row | {"label": "1"}, row | {"label": "3"}]))
    with pytest.raises(DataError, match="row 0: prompt and both answers"):
        read_labelled(write(tmp_path / "b.parquet", [row | {"label": "1", "prompt": None}]))
    with pytest.raises(DataError, match="Auto-J"):
        read_labelled(write(tmp_path / "c.parquet", [{"x": 1}]))
    with pytest.raises(MissingInputError):
        read_labelled(tmp_path / "gone.parquet")


def test_pairs_of_ones_own_are_read_in_any_form(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": f"q{i}", "response_a": "one", "response_b": "two", "preference": said}
        for i, said in enumerate(("A", "B", "tie", "A"))
    ]
    lines = tmp_path / "own.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_labelled(lines)
    said = sorted(unit.label.value for unit in found.comparisons)
    assert said == ["A", "A", "B", "Tie"]
    assert set(found.sources.values()) == {None}
    table = read_labelled(write(tmp_path / "own.parquet", rows))
    assert table.comparisons == found.comparisons
    lines.write_text(json.dumps({"question": "q", "answer": "a"}) + "\n")
    with pytest.raises(DataError, match=r"nor rows of prompt, response_a, response_b and prefe"):
        read_labelled(lines)


def test_repeated_rows_are_kept(tmp_path: Path) -> None:
    row: dict[str, object] = {"prompt": "q", "response_1": "a", "response_2": "b", "label": "tie"}
    found = read_labelled(write(tmp_path / "a.parquet", [row, row, row]))
    assert len({u.comparison.comparison_id for u in found.comparisons}) == 3


@pytest.mark.parametrize(
    ("name", "rows", "ties"),
    [("autoj_human_pairs", 1392, 373), ("hhh_human_pairs", 221, 0), ("judgebench_pairs", 620, 0)],
)
def test_the_real_pairs(real_data: Path, name: str, rows: int, ties: int) -> None:
    found = read_labelled(real_data / "judging" / f"{name}.parquet")
    assert len(found.comparisons) == rows
    assert sum(u.label is Preference.TIE for u in found.comparisons) == ties


@pytest.mark.parametrize(
    ("judge", "right", "consistency", "flips"),
    [
        ("o1-mini-2024-09-12", 0.6571, 0.686, 0.217),
        ("claude-3-haiku-20240307", 0.3230, 0.525, 0.171),
    ],
)
def test_cards_of_published_judgements(
    real_data: Path, judge: str, right: float, consistency: float, flips: float
) -> None:
    """JudgeBench's own accuracy for o1-mini; haiku left 13 pairs without a verdict in one order."""
    folder = real_data / "judging"
    rows = read_judgements(folder / "judgebench_judgments.parquet", judge)
    asked = {row["comparison_id"] for row in rows}
    units = [
        u
        for u in read_labelled(folder / "judgebench_pairs.parquet").comparisons
        if u.comparison.comparison_id in asked
    ]
    card = build_card(units, rows, judge=judge, kind="published", fingerprint="")
    assert card.accuracy_by_side.value == pytest.approx(right, abs=5e-5)
    assert card.position_consistency.value == pytest.approx(consistency, abs=5e-4)
    assert card.flip_rate.value == pytest.approx(flips, abs=5e-4)
    assert (card.position_gap.ci_low or 0) > 0.05
