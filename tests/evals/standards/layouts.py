"""Small files in the layouts in which Arena-Hard and MT-Bench are published."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


def write_lines(path: Path, rows: Iterable[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def arena_answer(uid: str, model: str, text: str, metadata: Row | None = None) -> Row:
    said = [
        {"role": "user", "content": f"Question {uid}?"},
        {"role": "assistant", "content": {"answer": text}},
    ]
    row = {"uid": uid, "ans_id": f"{model}-{uid}", "model": model, "messages": said}
    return row | ({"metadata": metadata} if metadata else {})


def arena_verdict(
    uid: str, model: str, games: Sequence[str | None], category: str, baseline: str
) -> Row:
    return {
        "uid": uid,
        "category": category,
        "judge": "a-judge",
        "model": model,
        "baseline": baseline,
        "games": [None if score is None else {"score": score} for score in games],
    }


def arena_set(
    root: Path, questions: Mapping[str, str], answers: Mapping[str, Mapping[str, str]], name: str
) -> Path:
    """A copy of the repository with questions by category, and models' answers by question."""
    folder = root / "data" / name
    rows = [
        {"uid": uid, "category": category, "cluster": "some", "prompt": f"Question {uid}?"}
        for uid, category in questions.items()
    ]
    write_lines(folder / "question.jsonl", rows)
    for model, texts in answers.items():
        said = [arena_answer(uid, model, text) for uid, text in texts.items()]
        write_lines(folder / "model_answer" / f"{model}.jsonl", said)
    return root


def mt_bench_set(
    root: Path, answers: Mapping[str, Mapping[int, Sequence[str]]], n: int = 4
) -> Path:
    """Questions of two turns, 81 and on, and models' answers to both."""
    folder = root / "data" / "mt_bench"
    questions = [
        {
            "question_id": 81 + i,
            "category": "writing" if i % 2 else "math",
            "turns": [f"First question {81 + i}?", f"And the second one, {81 + i}?"],
        }
        for i in range(n)
    ]
    write_lines(folder / "question.jsonl", questions)
    for model, texts in answers.items():
        rows = [
            {
                "question_id": key,
                "answer_id": f"{model}-{key}",
                "model_id": model,
                "choices": [{"index": 0, "turns": list(turns)}],
            }
            for key, turns in texts.items()
        ]
        write_lines(folder / "model_answer" / f"{model}.jsonl", rows)
    return root
