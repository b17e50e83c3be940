"""A rubric, a scale and criteria of one's own."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from evals.judges import LlmJudge, judge_model_files
from evals.judges.openai.read_reply import read_verdict
from evals.judges.openai.replies import Reply
from schemas.errors import DataError, MissingInputError
from schemas.labels import LabelProbabilities
from schemas.stage import Runtime
from tests.fixtures.comparisons import comparison

SERVER = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}
ONE = comparison("why?", "one", "two")


def kind(**settings: Any) -> LlmJudge:
    return LlmJudge.model_validate({"server": SERVER, **settings})


def test_a_rubric_of_ones_own_is_shown_and_its_content_is_the_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "pirates.md"
    path.write_text("Prefer whoever talks like a pirate.")
    mine = kind(rubric=str(path))
    (turn,) = mine.chat(ONE)
    assert turn["content"].startswith("Prefer whoever talks like a pirate.\n")
    assert judge_model_files(mine) == [path]
    assert mine.open(None, Runtime()).name == "llm:pirates"
    before = kind(rubric=str(path)).open(None, Runtime()).fingerprint
    path.write_text("Prefer whoever is brief.")
    assert kind(rubric=str(path)).open(None, Runtime()).fingerprint != before
    path.write_text(" \n")
    with pytest.raises(DataError, match="is empty"):
        kind(rubric=str(path)).chat(ONE)
    with pytest.raises(MissingInputError, match="no such rubric"):
        kind(rubric="nowhere.md").open(None, Runtime())


def read(settings: LlmJudge, text: str) -> tuple[float, float, float] | None:
    verdict = read_verdict(Reply(text), 0.5, None, False, settings.reading)
    if not isinstance(verdict, LabelProbabilities):
        return None
    return verdict.p_a, verdict.p_b, verdict.p_tie


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[[A>>B]]", (1, 0, 0)),
        ("Close. [[A>B]]", (0.75, 0.25, 0)),
        ("[[A=B]]", (0, 0, 1)),
        ("[[B>A]]", (0.25, 0.75, 0)),
        ("My verdict is [[A<<B]]", (0, 1, 0)),
        (
            "One of\n[[A>>B]] A is clearly better\n[[A>B]] A is slightly better\n[[A=B]] neither\n"
            "[[B>A]] B is slightly better\n[[B>>A]] B is clearly better",
            None,
        ),
        ("no idea", None),
    ],
)
def test_a_scale_by_hand(text: str, found: tuple[float, float, float] | None) -> None:
    settings = kind(answer="scale")
    assert "[[A>>B]]" in settings.chat(ONE)[0]["content"]
    assert read(settings, text) == found


def test_criteria_are_weighted() -> None:
    settings = kind(answer="criteria", criteria={"truth": 3, "style": 1})
    asked = settings.chat(ONE)[0]["content"]
    assert asked.endswith('{"truth": "A", "style": "B"}')
    assert "truth, style" in asked
    assert '{"truth": "A", "style": "B"}' in settings.reminder
    said = 'A is true.\n{"truth": "A", "style": "Tie"}'
    assert read(settings, said) == (0.75, 0, 0.25)
    assert read(settings, '{"truth": "B", "style": "Completion A"}') == (0.25, 0.75, 0)
    assert read(settings, '{"truth": "A"}') is None, "one is missing"
    assert read(settings, '<think>{"truth": "A", "style": "A"}') is None
    assert read(settings, "Verdict: A") is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"criteria": {"a": 1}}, "give them with answer"),
        ({"answer": "criteria"}, "give them with answer"),
        ({"answer": "criteria", "criteria": {"a": 0}}, "a weight is above 0"),
        ({"answer": "scale", "verdict_key": "x"}, "belong to answer label, reasoned"),
        ({"verdict_pattern": "("}, "no regular expression"),
        ({"rubric": "vibes"}, "or a file like my.md"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        kind(**settings)
