"""Outputs and prompts from the files of others: every layout says the same."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evals.files.outputs.match import match
from evals.files.outputs.outputs import read_outputs
from evals.files.outputs.prompts import read_prompts
from schemas.errors import ConfigError, DataError

QUESTIONS = ["Why is the sky blue?", "Name a fruit."]
ANSWERS = ["Rayleigh, mostly.", "Pear"]


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


PAIRS = list(zip(QUESTIONS, ANSWERS, strict=True))
ALPACA = [{"instruction": q, "output": a, "generator": "m", "dataset": "d"} for q, a in PAIRS]


def as_json(path: Path) -> Path:
    path.write_text(json.dumps(ALPACA))
    return path


def as_csv(path: Path) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ALPACA[0]))
        writer.writeheader()
        writer.writerows(ALPACA)
    return path


def as_parquet(path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(ALPACA), path)
    return path


def as_arena_v2(path: Path) -> Path:
    turns = [[user(q), assistant({"answer": a})] for q, a in PAIRS]
    return lines(path, [{"uid": str(i), "model": "m", "messages": t} for i, t in enumerate(turns)])


def as_messages(path: Path) -> Path:
    return lines(path, [{"messages": [user(q), assistant(a)]} for q, a in PAIRS])


def as_prompt_completion(path: Path) -> Path:
    return lines(path, [{"prompt": [user(q)], "completion": [assistant(a)]} for q, a in PAIRS])


LAYOUTS = {
    "a.json": as_json,
    "a.csv": as_csv,
    "a.parquet": as_parquet,
    "arena.jsonl": as_arena_v2,
    "chat.jsonl": as_messages,
    "trl.jsonl": as_prompt_completion,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_says_the_same(name: str, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n\n".join(QUESTIONS) + "\n")
    given = read_prompts(prompts)
    found = match(given, read_outputs(LAYOUTS[name](tmp_path / name)))
    assert found.unused == []
    texts = [found.answers[p.prompt_id][0].completion[-1]["content"] for p in given]
    assert texts == ANSWERS


@pytest.mark.parametrize("turns", [["One?", "Two?"], [{"content": "One?"}, {"content": "Two?"}]])
def test_mt_bench_has_a_second_turn_that_shows_the_first(turns: list[Any], tmp_path: Path) -> None:
    questions = lines(tmp_path / "question.jsonl", [{"question_id": 81, "turns": turns}])
    choices = [{"index": 0, "turns": ["1", "2"]}]
    answers = lines(tmp_path / "m.jsonl", [{"question_id": 81, "choices": choices}])
    first, second = read_prompts(questions)
    found = match([first, second], read_outputs(answers)).answers
    assert first.prompt_id != second.prompt_id
    assert found[first.prompt_id][0].completion == [assistant("1")]
    assert found[second.prompt_id][0].completion == [assistant("1"), user("Two?"), assistant("2")]


def test_what_answers_nothing_and_what_has_no_answer_is_known(tmp_path: Path) -> None:
    given = read_prompts(lines(tmp_path / "p.jsonl", [{"prompt": q} for q in QUESTIONS]))
    rows = [
        {"prompt": QUESTIONS[0] + " ", "output": "a"},
        {"prompt": QUESTIONS[0], "output": "b"},
        {"prompt": QUESTIONS[1], "output": None},
        {"prompt": "Something else?", "output": "c"},
    ]
    found = match(given, read_outputs(lines(tmp_path / "o.jsonl", rows)))
    assert found.unused == [3]
    assert [a.sample_index for a in found.answers[given[0].prompt_id]] == [0, 1]
    assert given[1].prompt_id not in found.answers


def test_an_array_of_texts_and_alpaca_input_are_prompts(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(QUESTIONS))
    assert [p.prompt[0]["content"] for p in read_prompts(path)] == QUESTIONS
    rows = [{"system": "Be brief.", "instruction": "Translate.", "input": "chat"}]
    [prompt] = read_prompts(lines(tmp_path / "q.jsonl", rows))
    assert [m["role"] for m in prompt.prompt] == ["system", "user"]
    assert prompt.prompt[1]["content"] == "Translate.\n\nchat"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "x"}, "row 0: no prompt under any of prompt.*found text"),
        ({"prompt": "  "}, "row 0: prompt says nothing"),
        ({"prompt": 3}, "row 0: prompt is int"),
        ({"messages": [{"role": "judge", "content": "x"}]}, r"row 0: messages\[0\] is no turn"),
    ],
)
def test_a_row_that_is_no_prompt_is_named(row: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read_prompts(lines(tmp_path / "p.jsonl", [row]))


def test_a_file_of_several_models_needs_a_name(tmp_path: Path) -> None:
    rows = [{"instruction": "q", "output": m, "generator": m} for m in ("one", "two")]
    path = lines(tmp_path / "o.jsonl", rows)
    with pytest.raises(ConfigError, match=r"several models; name one, as in .*#one"):
        read_outputs(path)
    with pytest.raises(ConfigError, match="no outputs of 'three', only of one, two"):
        read_outputs(path, "three")
    assert [o.turns for o in read_outputs(path, "two")] == [["two"]]


def test_a_row_without_output_names_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 0: no output under any of.*found prompt, said"):
        read_outputs(lines(tmp_path / "o.jsonl", [{"prompt": "q", "said": "a"}]))


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    path.write_text('{"prompt": "q", "output": "a"}\n{"prompt": \n')
    with pytest.raises(DataError, match="row 1: not JSON"):
        read_outputs(path)
