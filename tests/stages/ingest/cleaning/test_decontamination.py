"""Overlap with evaluation sets, against a plain reading of both texts."""

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import DataError
from stages.ingest.near_duplicates.config import Decontaminate
from stages.ingest.near_duplicates.decontamination import EvaluationSet, text_of, texts_of
from stages.ingest.near_duplicates.words import hash_words, split_words

EVAL = [
    "Write a short poem about the sea, the moon and an old man who waits there.",
    "Hi!",
    "What is the capital of France?",
]


def overlaps(texts: list[str], evaluation: list[str] = EVAL, ngram: int = 8) -> dict[int, str]:
    found = EvaluationSet(Decontaminate(path="eval.jsonl", ngram=ngram), evaluation).overlaps(
        texts, hash_words(texts)
    )
    assert {error.reason for error in found.values()} <= {"eval_contamination"}
    return {index: error.detail for index, error in found.items()}


def test_overlaps_are_quoted() -> None:
    found = overlaps(
        [
            "Please: write a SHORT poem about the sea - the moon and so on",
            "a poem about the sea",
            "hi",
            "Hi there",
            "what is the capital of france",
            "So what is the capital of France?",
            "",
        ]
    )
    assert found == {
        0: "shares 10 words with eval.jsonl: write a short poem about the sea the moon and",
        2: "shares 1 words with eval.jsonl: hi",
        4: "shares 6 words with eval.jsonl: what is the capital of france",
    }


def plain_overlap(text: str, evaluation: list[str], ngram: int) -> bool:
    words = split_words(text)
    for other in map(split_words, evaluation):
        if words and words == other:
            return True
        runs = {tuple(other[i : i + ngram]) for i in range(len(other) - ngram + 1)}
        if runs & {tuple(words[i : i + ngram]) for i in range(len(words) - ngram + 1)}:
            return True
    return False


@given(
    st.lists(st.text("ab c", max_size=30), max_size=5),
    st.lists(st.text("ab c", max_size=30), max_size=5),
)
def test_overlaps_are_those_of_a_plain_search(texts: list[str], evaluation: list[str]) -> None:
    expected = {i for i, text in enumerate(texts) if plain_overlap(text, evaluation, 4)}
    assert set(overlaps(texts, evaluation, ngram=4)) == expected


def test_words_in_another_order_are_no_overlap() -> None:
    words = EVAL[0].split()
    random.Random(0).shuffle(words)
    assert overlaps([" ".join(words)]) == {}


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("questions.jsonl", [{"question_id": 1, "turns": [{"content": t}]} for t in EVAL]),
        ("eval.jsonl.gz", [{"prompt": t} for t in EVAL]),
        ("eval.json", [{"instruction": t, "output": "x"} for t in EVAL]),
        ("prompts.parquet", [{"prompt": [{"role": "user", "content": t}]} for t in EVAL]),
        ("odd.jsonl", [{"ask": t} for t in EVAL]),
    ],
)
def test_evaluation_sets_are_read_as_they_come(tmp_path: Path, name: str, rows: list[dict]) -> None:  # type: ignore[type-arg]
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith(".json"):
        path.write_text(json.dumps(rows))
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    column = "ask" if name == "odd.jsonl" else None
    settings = Decontaminate(path=str(path), column=column)
    assert texts_of(settings) == EVAL
    assert settings.files() == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"ask": "x"}\n', r"no text in any of prompt.*it has ask.*set column"),
        ('{"prompt": 5}\n', r"no text in prompt"),
        ('{"prompt": "x"}\n{oops\n', r"row 1: .*mend or leave out"),
    ],
)
def test_a_set_without_texts_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "eval.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        texts_of(Decontaminate(path=str(tmp_path / "eval.jsonl")))


def test_text_of_anything() -> None:
    assert text_of([{"role": "user", "content": "a"}, "b", None, 5]) == "a\nb"


def test_real_prompts_against_a_real_evaluation_set(real_data: Path) -> None:
    """AlpacaEval overlaps itself whole, and the two hundred real prompts nowhere in 13 words."""
    settings = Decontaminate(path=str(real_data / "alpacaeval2/instructions.parquet"))
    texts = texts_of(settings)
    assert len(texts) == 805
    evaluation = EvaluationSet(settings, texts)
    assert len(evaluation.overlaps(texts, hash_words(texts))) == 805
    with gzip.open(real_data / "ultrafeedback/ultrafeedback_binarized_202.jsonl.gz") as lines:
        prompts = [json.loads(line)["prompt"] for line in lines]
    assert evaluation.overlaps(prompts, hash_words(prompts)) == {}
