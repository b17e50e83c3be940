"""Rows as people see them: who was preferred, what was said, where it came from."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.show_command import show
from pipeline.show_raw import read_raw
from schemas.errors import ConfigError, DataError
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
    "annotations": [{"annotator": "x", "label": "A", "strength": None, "reason": "short"}],
    "split": "train",
    "source": "s",
    "file": "raw.jsonl",
    "row": 7,
}


def lines(printed: str) -> list[str]:
    """What was printed, without frames."""
    return [line.strip("│╭╮╰╯─ ") for line in printed.splitlines()]


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
    assert "annotator x, label A, reason short" in printed
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


def test_parquet_is_raw_where_a_kind_is_named(tmp_path: Path, capsys: Printed) -> None:
    path = tmp_path / "train_prefs.parquet"
    pq.write_table(pa.Table.from_pylist([UF, {**UF, "score_rejected": 8.0}]), path)
    show(str(path), row=1, kind="ultrafeedback")
    printed = lines(capsys.readouterr().out)
    assert "completion A  tie" in printed
    show(str(path), row=1)
    assert "score_rejected: 8.0000" in lines(capsys.readouterr().out)


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
    with pytest.raises(ConfigError, match=r"--kind vlm.*'hh'"):
        read_raw(str(path), 0, "vlm")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="empty"):
        read_raw(str(tmp_path / "empty.jsonl"), 0, None)


def test_the_command_line_shows_raw_files(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(UF) + "\n")
    done = prefline("show", path, "--kind", "ultrafeedback", "--json")
    assert json.loads(done.stdout)["kind"] == "ultrafeedback"
    assert "preferred" in prefline("show", "--help").stdout
