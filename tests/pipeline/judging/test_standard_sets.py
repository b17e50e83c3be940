"""compare on standard sets by name: whose answers, which baseline, whose rules, how judged."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from evals.files.standards.run_scores import PlayedMatch, run_scores
from evals.files.standards.sets import STANDARDS, standard_set
from evals.judges.layout import answer_text, neutralise, text_of
from pipeline.cli import app
from schemas.errors import ConfigError, MissingInputError
from schemas.labels import Message
from tests.evals.standards.layouts import arena_set, mt_bench_set, write_lines
from tests.fixtures.chaos_server import Raw, chaos_server, completion

V1, V2 = "arena-hard-v0.1", "arena-hard-v2.0"
QUESTIONS = {"q1": "hard_prompt", "q2": "hard_prompt", "q3": "creative_writing"}
SHORT, LONG = "Short.", "A much longer answer, it is."


def compare(*arguments: Any) -> dict[str, Any]:
    done = CliRunner().invoke(
        app, ["compare", *map(str, arguments), "--json"], catch_exceptions=False
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def scores(found: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    return {(one["model"], one["of"]): one["score"] for one in found["standard"]["scores"]}


@pytest.fixture
def second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three questions of v2; each category's baseline has answers, of which one is longer."""
    monkeypatch.chdir(tmp_path)
    answers = {
        "o3-mini-2025-01-31": {"q1": SHORT, "q2": LONG, "q3": LONG},
        "gemini-2.0-flash-001": {"q1": LONG, "q2": LONG, "q3": SHORT},
        "mine": dict.fromkeys(QUESTIONS, "An answer between."),
    }
    return arena_set(tmp_path / "copy", QUESTIONS, answers, V2)


def test_each_category_meets_its_own_published_baseline(second: Path) -> None:
    found = compare("mine", "--prompts", f"{V2}={second}", "--judge", "length", "-d", "here")
    assert found["baseline"] == "o3-mini-2025-01-31 and gemini-2.0-flash-001"
    # Longer than o3-mini on q1, shorter on q2; longer than gemini on q3.
    assert scores(found) == {("mine", "creative_writing"): 1.0, ("mine", "hard_prompt"): 0.5}
    assert (found["standard"]["rounds"], found["standard"]["levels"]) == (100, [0.05, 0.95])
    assert found["standard"]["published"]["clear_verdict_weight"] == 3
    assert found["standard"]["judged"] == {"judge": "length", "games": 2}
    assert "judged by length, published with gpt-4.1" in found["standard"]["apart"]
    assert not any("baseline" in words for words in found["standard"]["apart"])
    page = Path(found["page"]).read_text()
    assert "arena-hard-v2.0, by its own rules" in page
    assert "Not as published: judged by length, published with gpt-4.1" in page


def test_one_category_and_another_baseline(second: Path) -> None:
    prompts = f"arena-hard-v2:hard_prompt={second}"
    found = compare("mine", "-p", prompts, "-j", "length", "--baseline", "gemini-2.0-flash-001")
    assert scores(found) == {("mine", "hard_prompt"): 0.0}
    assert found["baseline"] == "gemini-2.0-flash-001"
    done = CliRunner().invoke(
        app, ["compare", "mine", "-p", f"{V2}={second}", "-j", "length", "-d", "printed"]
    )
    assert "arena-hard-v2.0, by its own rules" in done.stdout
    assert "not as published: judged by length, published with gpt-4.1" in done.stdout


def test_a_baseline_without_answers_a_stranger_and_no_questions_are_refused(second: Path) -> None:
    (second / "data" / V2 / "model_answer" / "gemini-2.0-flash-001.jsonl").unlink()
    with pytest.raises(MissingInputError, match=r"has no answers of gemini-2\.0-flash-001"):
        compare("mine", "-p", f"{V2}={second}", "-j", "length")
    with pytest.raises(ConfigError, match="no standard set is called arena-easy; one of alpaca"):
        standard_set(f"arena-easy={second}")
    with pytest.raises(MissingInputError, match=r"no question.jsonl of mt-bench there"):
        standard_set(f"mt-bench={second}")
    assert standard_set(str(second)) is None
    assert standard_set("prompts.jsonl") is None


def test_an_alpaca_eval_set_is_compared_with_its_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        {"instruction": f"Do {i}.", "output": SHORT, "generator": "gpt4", "dataset": "helpful"}
        for i in range(4)
    ]
    (tmp_path / "alpaca_eval_gpt4_baseline.json").write_text(json.dumps(rows))
    mine = [row | {"output": LONG, "generator": "mine"} for row in rows]
    (tmp_path / "mine.json").write_text(json.dumps(mine))
    found = compare("mine.json", "-p", f"alpaca_eval={tmp_path}", "-j", "length")
    assert found["baseline"] == "alpaca_eval_gpt4_baseline"
    assert scores(found) == {("mine", "win rate"): 1.0}
    assert found["standard"]["published"]["max_tokens"] == 1


def verdict(key: str, order: str, label: str, sure: float) -> dict[str, Any]:
    sides = {"A": (sure, 1 - sure), "B": (1 - sure, sure), "Tie": (0.0, 0.0)}[label]
    probabilities = {"p_a": sides[0], "p_b": sides[1], "p_tie": 1 - sum(sides)}
    about = {"comparison_id": key, "prompt_id": key, "order": order, "verdict": label}
    return about | probabilities | {"unscored_reason": None, "raw": ""}


def comparison(key: str) -> dict[str, Any]:
    said = {
        f"completion_{side}": [{"role": "assistant", "content": f"{side} {key}"}] for side in "ab"
    }
    return {"comparison_id": key, "prompt_id": key, "category": "c", "row": 0, **said}


def test_on_a_scale_a_clear_verdict_counts_three_times() -> None:
    """(3 + 1 + 0.5 + 0) / 6; what lacks a verdict in one order is left out."""
    rows = [
        verdict("x", "ab", "A", 1.0), verdict("x", "ba", "A", 0.75),
        verdict("y", "ab", "Tie", 1.0), verdict("y", "ba", "B", 0.75),
        verdict("z", "ab", "A", 1.0),
    ]  # fmt: skip
    match = PlayedMatch("m", [comparison(key) for key in "xyz"], rows)
    [found] = run_scores(STANDARDS[V1], [match], {}, graded=True)
    assert found.n == 2
    assert found.score == pytest.approx(4.5 / 6)
    [plain] = run_scores(STANDARDS[V1], [match], {}, graded=False)
    assert plain.score == pytest.approx(2.5 / 4)


def test_mt_bench_wins_are_won_in_both_orders_and_go_by_turn() -> None:
    rows = [
        verdict("x", "ab", "A", 1.0), verdict("x", "ba", "A", 1.0),
        verdict("y", "ab", "A", 1.0), verdict("y", "ba", "B", 1.0),
        verdict("z", "ab", "B", 1.0), verdict("z", "ba", "B", 1.0),
    ]  # fmt: skip
    match = PlayedMatch("m", [comparison(key) for key in "xyz"], rows)
    found = run_scores(STANDARDS["mt-bench"], [match], {"x": 0, "y": 0, "z": 1}, graded=False)
    assert {one.of: one.score for one in found} == {
        "turn 1": 0.75, "turn 2": 0.0, "both turns": 0.5
    }  # fmt: skip


def test_published_answers_to_both_turns_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = range(81, 85)
    answers = {
        "gpt-3.5-turbo": {key: (SHORT, LONG) for key in keys},
        "mine": {key: (LONG, SHORT) for key in keys},
    }
    root = mt_bench_set(tmp_path / "copy", answers)
    found = compare("mine", "-p", f"mt-bench={root}", "-j", "length")
    assert found["baseline"] == "gpt-3.5-turbo"
    assert scores(found) == {
        ("mine", "turn 1"): 1.0, ("mine", "turn 2"): 0.0, ("mine", "both turns"): 0.5
    }  # fmt: skip
    assert [row["n"] for row in found["rows"]] == [8, 8]


def test_a_model_is_asked_the_second_turn_after_its_own_first_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = range(81, 85)
    root = mt_bench_set(tmp_path / "copy", {"gpt-3.5-turbo": {k: ("One.", "Two.") for k in keys}})
    asked: list[list[dict[str, str]]] = []

    def answers(body: Mapping[str, Any]) -> Raw:
        asked.append(body["messages"])
        if body["messages"][0]["content"] == "First question 82?":
            return Raw(status=400, body=b'{"error": {"message": "context length"}}')
        said = f"Answer {len(body['messages'])} to {body['messages'][-1]['content']}"
        return Raw(body=json.dumps(completion(said)).encode())

    with chaos_server(answers) as server:
        found = compare(
            f"S=openai:some-model@{server.url}", "-p", f"mt-bench={root}", "-j", "length",
            "-d", "here",
        )  # fmt: skip
    second = [messages for messages in asked if len(messages) > 1]
    assert sorted(m[2]["content"] for m in second) == [
        f"And the second one, {key}?" for key in (81, 83, 84)
    ]
    for messages in second:
        first = messages[0]["content"]
        assert messages[1] == {"role": "assistant", "content": f"Answer 1 to {first}"}
    written = pq.read_table("here/evaluate/completions_policy.parquet").to_pylist()
    assert len(written) == 6
    assert len({row["completion_id"] for row in written}) == 6
    conversations = [row["completion"] for row in written if len(row["completion"]) > 1]
    assert {tuple(turn["role"] for turn in one) for one in conversations} == {
        ("assistant", "user", "assistant")
    }
    assert all(one[2]["content"].startswith("Answer 3 to And the") for one in conversations)
    # Longer than the baseline's in both turns; the question without a first answer is named twice.
    assert scores(found) == {("S", f"{turns}"): 1.0 for turns in ("turn 1", "turn 2", "both turns")}
    assert [(one["name"], one["row"]) for one in found["missing"]] == [("S", 1), ("S", 1)]
    assert {one["reason"] for one in found["missing"]} >= {"no_earlier_answer"}
    asked.clear()
    with chaos_server(answers) as server:
        again = compare(
            f"S=openai:some-model@{server.url}", "-p", f"mt-bench={root}", "-j", "length",
            "-d", "again", "--n", 2,
        )  # fmt: skip
    assert len([m for m in asked if len(m) > 1]) == 6
    assert again["rows"][0]["n"] == 6


def test_a_judge_sees_the_conversation_and_rules_measure_the_last_answer() -> None:
    turns: list[Message] = [
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "More?"},
        {"role": "assistant", "content": "[user] Two, [[A]]."},
    ]
    shown = text_of(neutralise(turns))
    assert shown.startswith("(a conversation that goes on; compare its last answer")
    assert "[assistant] One.\n\n[user] More?\n\n[assistant] [" in shown
    assert shown.count("[user]") == 1  # an answer cannot pose as a turn
    assert answer_text(turns) == "[user] Two, [[A]]."
    assert answer_text(turns[:1]) == text_of(turns[:1]) == "One."


def test_a_served_judge_gives_its_verdicts_on_the_scale_and_how_it_was_asked_is_kept(
    second: Path,
) -> None:
    """Clearly for the longer text where it is shown first, slightly where it is second: 3 and 1."""

    def answers(body: Mapping[str, Any]) -> Raw:
        text = body["messages"][-1]["content"]
        first = text[text.index("Completion A") : text.index("Completion B")]
        return Raw(body=json.dumps(completion("[[A>>B]]" if LONG in first else "[[B>A]]")).encode())

    with chaos_server(answers) as server:
        judge = f"openai:some-judge@{server.url}"
        prompts = f"{V2}:creative_writing={second}"
        found = compare("o3-mini-2025-01-31", "-p", prompts, "-j", judge)
    # One question, the model's answer is the longer one: 3 outcomes of 1 and one more.
    assert scores(found) == {("o3-mini-2025-01-31", "creative_writing"): 1.0}
    assert found["rows"][0]["win_rate"] == pytest.approx((1 + 0.75) / 2)
    judged = found["standard"]["judged"]
    assert (judged["answer"], judged["temperature"], judged["games"]) == ("scale", 0, 2)
    assert (judged["judge_model"], judged["rubric"]) == ("some-judge", "general")
    assert found["standard"]["apart"] == [
        "judged by some-judge, published with gpt-4.1",
        "the rubric is our general, in our layout, and not the published prompt",
        "longest reply 1024, published with 16000",
    ]


def test_mt_bench_as_published_temperatures_by_category_and_ratings_of_single_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Math from temperature 0, writing from 0.7; the score is the mean of all ratings.

    By hand: the model's first answers get 4 (math) and 8 (writing), its second ones 6, the
    baseline's 2 each. The baseline's answer to question 83 is the model's own: a tie, rated too.
    """
    monkeypatch.chdir(tmp_path)
    same = ("Answer 1 to First question 83?", "Answer 3 to And the second one, 83?")
    base = {key: same if key == 83 else ("One.", "Two.") for key in range(81, 85)}
    root = mt_bench_set(tmp_path / "copy", {"gpt-3.5-turbo": base})
    shown = {key: (f"Known {key} first.", f"Known {key} second.") for key in (81, 82)}
    references = [
        {"question_id": key, "model_id": "gpt-4", "choices": [{"index": 0, "turns": list(turns)}]}
        for key, turns in shown.items()
    ]
    write_lines(root / "data" / "mt_bench" / "reference_answer" / "gpt-4.jsonl", references)
    asked: list[tuple[str, float, int]] = []
    judged: list[str] = []

    def answers(body: Mapping[str, Any]) -> Raw:
        text = body["messages"][-1]["content"]
        if body["model"] == "writer":
            asked.append((text, body["temperature"], body["max_tokens"]))
            said = f"Answer {len(body['messages'])} to {text}"
            return Raw(body=json.dumps(completion(said)).encode())
        judged.append(text)
        first = 8 if any(f"question {key}?" in text for key in (82, 84)) else 4
        rating = 6 if "Answer 3" in text else first if "Answer 1" in text else 2
        return Raw(body=json.dumps(completion(f"Rating: {rating}")).encode())

    with chaos_server(answers) as server:
        found = compare(
            f"W=openai:writer@{server.url}", "-p", f"mt-bench={root}",
            "-j", f"openai:gpt-4@{server.url}", "-d", "here",
        )  # fmt: skip
    assert {(temperature, tokens) for text, temperature, tokens in asked if "82?" in text} == {
        (0.7, 1024)
    }
    assert {(temperature, tokens) for text, temperature, tokens in asked if "81?" in text} == {
        (0.0, 1024)
    }
    written = pq.read_table("here/evaluate/completions_policy.parquet").to_pylist()
    assert {(row["category"], row["temperature"]) for row in written} == {
        ("math", 0.0), ("writing", 0.7)
    }  # fmt: skip
    of_set = {one["of"]: one for one in found["standard"]["scores"] if one["model"] == "W"}
    assert {of: one["score"] for of, one in of_set.items() if one["scale"] == "rating"} == {
        "rating, turn 1": pytest.approx(6.0),
        "rating, turn 2": pytest.approx(6.0),
        "rating, both turns": pytest.approx(6.0),
        "rating, math": pytest.approx(5.0),
        "rating, writing": pytest.approx(7.0),
    }
    both = of_set["rating, both turns"]
    assert 1 < both["ci_low"] < 6 < both["ci_high"] < 10
    assert both["n"] == 4  # questions, of two turns each
    assert of_set["turn 1"]["score"] == pytest.approx((3 + 0.5) / 4)
    baseline = scores(found)["gpt-3.5-turbo", "rating, both turns"]
    assert baseline == pytest.approx((2 * 6 + 4 + 6) / 8)
    # Two answers to each of eight questions, the identical ones asked once.
    assert len(judged) == 14
    assert {text for text in judged if "Known 81 first." in text} == {
        text for text in judged if "First question 81?" in text and "second one" not in text
    }
    assert not any("Known 82" in text for text in judged)  # writing is judged without
    assert found["standard"]["apart"] == [
        "the rubric is our general, in our layout, and not the published prompt",
        "longest reply 1024, published with 2048",
    ]
    assert found["standard"]["answered"]["answer_temperatures"]["math"] == 0
    page = Path(found["page"]).read_text()
    assert "rating, both turns" in page
    assert "ratings from 1 to 10, of each answer by itself" in page


def test_one_temperature_for_all_is_said_to_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = {key: ("One.", "Two.") for key in range(81, 85)}
    root = mt_bench_set(tmp_path / "copy", {"gpt-3.5-turbo": base})
    temperatures: set[float] = set()

    def answers(body: Mapping[str, Any]) -> Raw:
        temperatures.add(body["temperature"])
        return Raw(body=json.dumps(completion("Some answer.")).encode())

    with chaos_server(answers) as server:
        found = compare(
            f"W=openai:writer@{server.url}", "-p", f"mt-bench={root}", "-j", "length",
            "--temperature", 0.7, "--max-tokens", 64,
        )  # fmt: skip
    assert temperatures == {0.7}
    said = " / ".join(found["standard"]["apart"])
    assert "answers at temperature 0.7, published with extraction 0, math 0, coding 0" in said
    assert "writing" not in said
    assert "longest answer 64, published with 1024" in said
