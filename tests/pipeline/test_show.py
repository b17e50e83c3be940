"""Rows as people see them: who was preferred, what was said, where it came from."""

import gzip
import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.commands.data.show import show
from pipeline.display.raw_rows import read_raw
from pipeline.display.rows import pick_row
from pipeline.display.terminal_text import visible
from schemas.errors import BackendError, ConfigError, DataError, MissingInputError
from schemas.parquet import write_table
from schemas.tables import COMPARISONS
from tests.fixtures.command_line import prefline

Printed = pytest.CaptureFixture[str]


def turn(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


ROW: dict[str, Any] = {
    **dict.fromkeys(COMPARISONS.schema.names),
    "comparison_id": "c1",
    "prompt_id": "p1",
    "prompt": turn("user", "Which? \x1b[31m"),
    "completion_a": turn("assistant", "the worse one"),
    "completion_b": turn("assistant", "the better one"),
    "label": "B",
    "strength": 2.0,
    "annotations": [
        {"annotator": "x", "label": "A", "strength": None, "reason": "short"}
        | {"feedback_b": "fine"}
    ],
    "split": "train",
    "source": "s",
    "file": "raw.jsonl",
    "row": 7,
}


def lines(printed: str) -> list[str]:
    """What was printed, without frames."""
    return [line.strip("│╭╮╰╯─ ") for line in printed.splitlines()]


def test_thoughts_and_tool_calls_of_a_turn_are_shown(tmp_path: Path, capsys: Printed) -> None:
    call = {"id": "1", "function": {"name": "look", "arguments": "{}"}}
    turn = {"role": "assistant", "content": "", "reasoning": "Hm.", "tool_calls": [call]}
    write_table(tmp_path / "c.parquet", COMPARISONS, [{**ROW, "completion_a": [turn]}])
    show(str(tmp_path / "c.parquet"), as_json=True)
    assert json.loads(capsys.readouterr().out)["completion_a"] == [turn]
    show(str(tmp_path / "c.parquet"))
    printed = capsys.readouterr().out
    assert "assistant: (empty)\n  reasoning: Hm.\n  tool_calls: [{" in printed
    assert "'name': 'look'" in printed
    assert "tool_call_id" not in printed


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("B", ["completion_a  not preferred", "completion_b  preferred"]),
        ("A", ["completion_a  preferred", "completion_b  not preferred"]),
        ("Tie", ["completion_a  tie", "completion_b  tie"]),
        (None, ["completion_a", "completion_b"]),
    ],
)
def test_a_comparison_says_which_side_was_preferred(
    tmp_path: Path, capsys: Printed, label: str | None, said: list[str]
) -> None:
    write_table(tmp_path / "c.parquet", COMPARISONS, [{**ROW, "label": label}])
    show(str(tmp_path / "c.parquet"))
    printed = lines(capsys.readouterr().out)
    assert [
        line for line in printed if line.startswith("completion_") and "_id" not in line
    ] == said
    assert "user: Which? \\x1b[31m" in printed
    assert "x says A: short" in printed
    assert "of B: fine" in printed
    assert "from: s: raw.jsonl, row 7" in printed
    assert not [line for line in printed if line.startswith(("source:", "file:"))]


UF = {
    "prompt": "Hi",
    "chosen": [*turn("user", "Hi"), *turn("assistant", "worth reading")],
    "rejected": [*turn("user", "Hi"), *turn("assistant", "so-so")],
    "score_chosen": 8.0,
    "score_rejected": 5.5,
}
HH = {"chosen": "\n\nHuman: Hi\n\nAssistant: yes", "rejected": "\n\nHuman: Hi\n\nAssistant: no"}
VOTE = {"winner": "tie", "conversation_a": UF["chosen"], "conversation_b": UF["rejected"]}
STEER = {"context": turn("user", "Hi"), "response1": "a", "response2": "b"}
RATED = {"honesty": {"Rating": "4"}}
OPENBMB = {
    "instruction": "Hi",
    "completions": [
        {"response": "bad", "annotations": {"honesty": {"Rating": "1"}}},
        {"response": "good", "annotations": RATED},
    ],
}


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (UF, "ultrafeedback"),
        (HH, "hh"),
        (VOTE, "arena"),
        ({**STEER, "overall_preference": 1}, "helpsteer3"),
        (OPENBMB, "ultrafeedback_openbmb"),
        ({"prompt": "Hi", "chosen": "a", "rejected": "b"}, "jsonl"),
        ({"text": "nothing to compare"}, None),
    ],
)
def test_a_raw_row_is_read_as_the_kind_that_fits(
    tmp_path: Path, row: dict[str, Any], kind: str | None
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "first"}) + "\n" + json.dumps(row) + "\n")
    shown = read_raw(str(path), 1, None)
    assert (shown.kind, shown.row, shown.value) == (kind, 1, row)
    assert bool(shown.as_json()["read"]) is (kind is not None)


def test_one_command_shows_chosen_and_rejected(tmp_path: Path, capsys: Printed) -> None:
    path = tmp_path / "ultrafeedback.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(UF).encode()))
    show(str(path))
    printed = lines(capsys.readouterr().out)
    wanted = ["prompt", "user: Hi", "chosen", "assistant: worth reading", "rejected"]
    assert [line for line in printed if line in wanted] == wanted
    assert "strength: 2.5" in printed
    show(str(path), as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["read"][0]["completion_a"] == turn("assistant", "worth reading")
    assert shown["raw"] == UF


@pytest.mark.parametrize("kind", ["ultrafeedback", None])
def test_parquet_that_is_no_table_of_ours_is_raw(
    tmp_path: Path, capsys: Printed, kind: str | None
) -> None:
    path = tmp_path / "train_prefs.parquet"
    pq.write_table(pa.Table.from_pylist([UF, {**UF, "score_rejected": 8.0}]), path)
    for row in (1, -1):
        show(str(path), row=row, kind=kind)
        printed = lines(capsys.readouterr().out)
        assert printed[0].endswith("row 1, read as ultrafeedback")
        assert "completion A  tie" in printed


def test_parquet_that_no_kind_understands_is_shown_as_it_is(
    tmp_path: Path, capsys: Printed
) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.Table.from_pylist([{"text": "x\x1b", "score": 8.25, "n": None}]), path)
    show(str(path))
    assert lines(capsys.readouterr().out)[2:] == ["text: x\\x1b", "score: 8.25", "n: (none)"]
    show(str(path), as_json=True)
    assert json.loads(capsys.readouterr().out) == {"text": "x\x1b", "score": 8.25, "n": None}


def test_json_is_json_whatever_the_row_holds(tmp_path: Path, capsys: Printed) -> None:
    path = tmp_path / "other.parquet"
    odd = {"x": [math.nan, -math.inf, 1.5], "when": datetime(2026, 1, 2), "bytes": b"\xff"}
    pq.write_table(pa.Table.from_pylist([odd]), path)
    show(str(path), as_json=True)
    printed = capsys.readouterr().out
    assert "NaN" not in printed
    assert "Infinity" not in printed
    shown = json.loads(printed)
    assert (shown["x"], shown["when"]) == (["nan", "-inf", 1.5], "2026-01-02 00:00:00")


def test_what_a_hub_has_is_one_command_too(
    tmp_path: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local copy in the same layout stands for the hub."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    data = tmp_path / "uf" / "data"
    data.mkdir(parents=True)
    table = pa.Table.from_pylist([UF, {**UF, "score_rejected": 8.0}])
    pq.write_table(table, data / "train_prefs-00000-of-00001.parquet")
    show(f"hub:{tmp_path}/uf@main/train_prefs", row=1)
    printed = lines(capsys.readouterr().out)
    assert printed[0] == f"hub:{tmp_path}/uf@main/train_prefs row 1, read as ultrafeedback"
    assert "completion A  tie" in printed
    assert not list((tmp_path / "cache").rglob("*.arrow"))
    with pytest.raises(BackendError, match="main/dev: cannot be loaded"):
        show(f"hub:{tmp_path}/uf@main/dev")
    for wrong in ("hub:a/b", "hub:a/b@main", "hub:@main/train", "hub:a/b@main/x/y/z"):
        with pytest.raises(ConfigError, match="write hub:OWNER/NAME@REVISION/SPLIT"):
            show(wrong)


def test_sides_are_named_where_annotations_speak_of_them(tmp_path: Path, capsys: Printed) -> None:
    path = tmp_path / "rows.jsonl"
    said = {"score": 2, "reasoning": "r", "feedback1": "poor"}
    row = {**STEER, "overall_preference": 2, "individual_preference": [said]}
    path.write_text(json.dumps(row) + "\n")
    show(str(path))
    printed = lines(capsys.readouterr().out)
    wanted = ["chosen (B)", "assistant: b", "rejected (A)", "assistant: a"]
    assert [line for line in printed if line in wanted] == wanted
    assert "annotator says B by 2: r" in printed
    assert "of A: poor" in printed


def test_an_id_finds_its_rows_and_no_others(tmp_path: Path) -> None:
    rows = [{**ROW, "comparison_id": c} for c in ("aa1", "aa2", "b")]
    write_table(tmp_path / "c.parquet", COMPARISONS, rows)
    assert pick_row(tmp_path / "c.parquet", 0, "aa2")[1:] == (1, 3)
    with pytest.raises(ConfigError, match="2 ids begin with aa: aa1, aa2; give more"):
        pick_row(tmp_path / "c.parquet", 0, "aa")
    with pytest.raises(ConfigError, match="no comparison_id begins with x"):
        pick_row(tmp_path / "c.parquet", 0, "x")
    with pytest.raises(ConfigError, match=r"has 3 rows; --row 3 is none of them"):
        pick_row(tmp_path / "c.parquet", 3, None)
    # Both orders of a verdict have one id.
    pq.write_table(
        pa.table({"comparison_id": ["x", "y", "y"], "n": [0, 1, 2]}),
        tmp_path / "v.parquet",
        row_group_size=1,
    )
    assert pick_row(tmp_path / "v.parquet", 1, "y")[0] == {"comparison_id": "y", "n": 2}
    with pytest.raises(ConfigError, match="has 2 rows whose id begins with y; --row 2 is none"):
        pick_row(tmp_path / "v.parquet", 2, "y")
    pq.write_table(pa.table({"chosen": [[1]]}), tmp_path / "w.parquet")
    with pytest.raises(ConfigError, match="its rows have no id; give --row"):
        pick_row(tmp_path / "w.parquet", 0, "y")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m \x9b \x00 \r \x7f", "\\x1b[31m \\x9b \\x00 \\r \\x7f"),
        ("\u202egnp\u202c \u2066 \u200b \u2028 \ufeff", None),
        ("日本\u3000語 a\u00a0b 👨\u200d👩 می\u200cخواهم e\u0301 👍🏽 \t\n", ...),
    ],
)
def test_text_cannot_drive_the_terminal_and_stays_legible(text: str, shown: Any) -> None:
    found = visible(text)
    assert not set(found) & set("\x1b\x9b\x00\r\x7f\u202e\u202c\u2066\u200b\u2028\ufeff")
    if shown is not None:
        assert found == (text if shown is ... else shown)


def test_a_rejected_row_says_why_and_shows_itself(tmp_path: Path, capsys: Printed) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"chosen": NaN}\n' + json.dumps({**UF, "score_chosen": 1}).encode())
    show(str(path), row=1, kind="ultrafeedback")
    printed = capsys.readouterr().out
    assert "rejected: scores_contradict: score_chosen 1 < score_rejected 5.5" in printed
    assert '"score_chosen": 1' in printed
    show(str(path), row=0, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["rejected"][0]["reason"], shown["raw"]) == (
        "non_finite_number",
        '{"chosen": NaN}',
    )


def test_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(UF) + "\n")
    with pytest.raises(ConfigError, match="has no row 5"):
        read_raw(str(path), 5, None)
    with pytest.raises(ConfigError, match="counted from its beginning"):
        read_raw(str(path), -1, None)
    with pytest.raises(ConfigError, match=r"--kind vlm: unknown kind: one of .*, hh, kto, jsonl"):
        read_raw(str(path), 0, "vlm")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="empty"):
        read_raw(str(tmp_path / "empty.jsonl"), 0, None)
    with pytest.raises(ConfigError, match=r"is a folder; give one of its files, such as .*empty"):
        show(str(tmp_path))
    with pytest.raises(MissingInputError, match=r"nofile\.jsonl: no such table or file"):
        show(str(tmp_path / "nofile.jsonl"), tmp_path)
    (tmp_path / "x.txt").write_text("a,b")
    with pytest.raises(DataError, match=r"not a Parquet file.*show reads tables, Parquet and JSON"):
        show(str(tmp_path / "x.txt"))


def test_the_command_line_shows_raw_files(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(UF) + "\n")
    done = prefline("show", path, "--kind", "ultrafeedback", "--json")
    assert json.loads(done.stdout)["kind"] == "ultrafeedback"
    assert "preferred" in prefline("show", "--help").stdout
